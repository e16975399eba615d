"""Configs of the paper's models refuse what cannot be."""

from __future__ import annotations

import pytest

from headlift.errors import InvalidInputError
from headlift.model.perchead.config import DecoderConfig, EncoderConfig, PercHeadConfig, SharpenerConfig, VitConfig


@pytest.mark.parametrize(
    "make",
    [
        lambda: EncoderConfig(image_size=505),
        lambda: EncoderConfig(dim=130),
        lambda: EncoderConfig(backbone_layers=(40,)),
        lambda: EncoderConfig(backbone_layers=(0,), layer_convention="hf"),
        lambda: EncoderConfig(backbone_layers=()),
        lambda: VitConfig(stem="conv"),
        lambda: VitConfig(stem="other"),  # type: ignore[arg-type]
        lambda: EncoderConfig(backbone="resnet"),
        lambda: EncoderConfig(image_size=512, patch_size=16),
        lambda: EncoderConfig(foreground_threshold=1.0),
        lambda: DecoderConfig(dim=1000),
        lambda: DecoderConfig(depth=0),
        lambda: DecoderConfig(s_max=-0.1),
        lambda: DecoderConfig(residual="none"),  # type: ignore[arg-type]
        lambda: SharpenerConfig(depth=3),
        lambda: PercHeadConfig(portrait_size=256),
    ],
)
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(InvalidInputError):
        make()  # type: ignore[operator]
