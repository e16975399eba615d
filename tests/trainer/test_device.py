"""Batches are moved whole, whatever they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headlift.model.cameras import orbit_cameras
from headlift.model.types import Cameras
from headlift_trainer.device import to_device, torch_device

META = torch.device("meta")


@dataclass(frozen=True)
class Nested:
    pictures: Tensor
    cameras: tuple[Cameras, ...]
    words: list[str]
    target: Tensor | None = None


def test_every_tensor_of_a_batch_is_moved_and_nothing_else_changes() -> None:
    batch = Nested(torch.zeros(2, 3), (orbit_cameras([0.0]), orbit_cameras([0.0, 9.0])), ["red hair"])
    moved, none = to_device((batch, None), META)
    assert none is None
    assert moved.pictures.device == META
    assert [cameras.viewmats.device for cameras in moved.cameras] == [META, META]
    assert moved.cameras[1].width == batch.cameras[1].width
    assert (moved.words, moved.target) == (["red hair"], None)
    assert batch.pictures.device.type == "cpu"


def test_a_named_device_is_taken_and_auto_is_one_that_there_is() -> None:
    assert torch_device("cuda:1") == torch.device("cuda", 1)
    torch.zeros(1, device=torch_device("auto"))
