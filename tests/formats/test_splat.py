"""SPLAT: the 32-byte record."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
import torch

from headlift import formats
from headlift.errors import FormatError
from headlift.model.types import Gaussians


def test_a_record_has_the_layout_of_the_web_viewer() -> None:
    gaussian = Gaussians(
        means=torch.tensor([[1.0, 2.0, 3.0]]),
        quats=torch.tensor([[0.5, 0.5, 0.5, -0.5]]),
        scales=torch.tensor([[0.1, 0.2, 0.3]]),
        opacities=torch.tensor([0.2]),
        colors=torch.tensor([[1.0, 0.0, 0.6]]),
    )
    assert struct.unpack("<6f8B", formats.write(gaussian, "splat")) == pytest.approx(
        (1, -2, -3, 0.1, 0.2, 0.3, 255, 0, 153, 51, 192, 192, 64, 192)
    )


def test_another_frame_can_be_asked_for(bust: Callable[[int], Gaussians]) -> None:
    data = formats.write(bust(10), "splat", frame="RUB")
    assert torch.equal(formats.read(data, "splat", frame="RUB").means, bust(10).means)


@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_lengths_that_are_no_records_are_refused(size: int) -> None:
    with pytest.raises(FormatError):
        formats.read(bytes(size), "splat")


def test_more_than_the_limit_is_refused(bust: Callable[[int], Gaussians]) -> None:
    with pytest.raises(FormatError, match="10 Gaussians; at most 9"):
        formats.read(formats.write(bust(10), "splat"), max_gaussians=9)
