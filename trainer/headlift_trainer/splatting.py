"""Views of heads under training, for every task that compares pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians, RenderedViews
from headlift_trainer.profiler import mark_backward, phase

_FIELDS = ("means", "quats", "scales", "opacities", "colors")


def splat(heads: Gaussians, cameras: Sequence[Cameras]) -> list[RenderedViews]:
    """Each of B heads from its own cameras, in single precision whatever the networks' is.

    Args:
        heads: Fields of shape [B, N, ...], as the decoder returns them.
        cameras: Of each head.
    """
    fields = {name: mark_backward(getattr(heads, name).float(), "splatting") for name in _FIELDS}
    with phase("splatting"), torch.autocast(heads.means.device.type, enabled=False):
        return [
            rasterize(Gaussians(**{name: value[row] for name, value in fields.items()}), views)
            for row, views in enumerate(cameras)
        ]
