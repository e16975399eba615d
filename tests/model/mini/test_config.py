"""Configs of mini refuse what cannot be."""

from __future__ import annotations

import pytest

from headlift.errors import InvalidInputError
from headlift.model.mini.config import HeadNetConfig, MiniConfig, MiniEncoderConfig


@pytest.mark.parametrize(
    "make",
    [
        lambda: MiniEncoderConfig(patch_size=14, image_size=196, stem="patchify"),
        lambda: MiniEncoderConfig(headnet_layers=(6,)),
        lambda: MiniEncoderConfig(thumbnail=0),
        lambda: HeadNetConfig(dim=190),
        lambda: HeadNetConfig(depth=0),
        lambda: MiniConfig(portrait_size=128),
    ],
)
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(InvalidInputError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("geometry_rank", 0),
        ("color_rank", -1),
        ("color_ridge", 0.0),
        ("outline_steps", 0),
        ("deformation_cells", 1),
        ("deformation_cells", -3),
        ("min_disc_overlap", 0.0),
        ("hair_grain", 0.0),
    ],
)
def test_no_part_of_mini_can_be_left_out(name: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=name):
        MiniConfig(**{name: value})  # type: ignore[arg-type]
