"""Rendered crops as the served way from a portrait to a head takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.model.sizes import HeadModel
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.stages.reconstruct import Reconstruct


def portrait_of(picture: Tensor, camera: Cameras | None = None) -> Portrait:
    """A rendered crop [4, S, S], premultiplied RGB and alpha; a ``camera`` (C = 1) takes the place of the estimate."""
    return Portrait(picture[:3], picture[3:], torch.eye(2, 3, dtype=torch.float64), camera)


def reconstruct(model: HeadModel, picture: Tensor, camera: Cameras | None = None) -> Gaussians:
    """The head of a rendered crop, as it is served without refinement."""
    return Reconstruct(model)(portrait_of(picture, camera)).gaussians
