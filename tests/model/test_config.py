"""Configs survive JSON, refuse nonsense and hold the paper's numbers."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from headlift.errors import InvalidInputError
from headlift.model.perchead.config import DecoderConfig, EncoderConfig, PercHeadConfig, SharpenerConfig
from headlift.model.sizes import CONFIGS, named_config


@pytest.mark.parametrize("name", CONFIGS)
def test_json_round_trip_changes_nothing(name: str) -> None:
    config = named_config(name)
    assert config.name == name
    assert PercHeadConfig.from_json(config.to_json()) == config


def test_base_is_the_papers_model() -> None:
    base = named_config("base")
    assert (base.decoder.depth, base.decoder.dim, base.decoder.num_heads) == (10, 1024, 16)
    assert (base.decoder.num_patches, base.decoder.num_gaussians) == (4096, 65536)
    assert (base.encoder.depth, base.encoder.dim, base.encoder.grid) == (2, 128, 36)
    assert (base.encoder.backbone, base.encoder.backbone_layers) == ("dinov2_vitg14", (9, 19, 29, 39))
    assert base.encoder.backbone_dim == 4 * 1536
    assert (base.decoder.residual, base.decoder.guidance, base.decoder.code_rank) == ("paper", "none", 0)
    assert base.sharpener is not None


def test_light_models_have_four_layers_and_no_sharpener() -> None:
    for name in ("light", "light_s"):
        assert (named_config(name).decoder.depth, named_config(name).sharpener) == (4, None)
    assert named_config("light_s").encoder.backbone == "dinov2_vits14"


def test_every_real_size_makes_65536_gaussians() -> None:
    assert {named_config(n).decoder.num_gaussians for n in ("base", "light", "light_s", "mini")} == {65536}


def test_configs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        named_config("mini").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"colour": 1}', "colour"),
        ('{"decoder": {"layers": 3}}', "layers"),
        ('{"decoder": {"depth": "ten"}}', "wrong type"),
        ('{"decoder": 3}', "must be an object"),
        ('{"encoder": {"backbone": "resnet"}}', "resnet"),
    ],
)
def test_bad_json_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        PercHeadConfig.from_json(text)


def test_absent_fields_take_their_defaults() -> None:
    assert PercHeadConfig.from_json('{"decoder": {"depth": 4}}').decoder == DecoderConfig(depth=4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EncoderConfig(image_size=505),
        lambda: EncoderConfig(dim=130),
        lambda: EncoderConfig(backbone_layers=(40,)),
        lambda: EncoderConfig(backbone_layers=(0,), layer_convention="hf"),
        lambda: EncoderConfig(backbone_layers=()),
        lambda: EncoderConfig(stem="conv"),
        lambda: EncoderConfig(image_size=512, patch_size=16),
        lambda: EncoderConfig(foreground_threshold=1.0),
        lambda: DecoderConfig(dim=1000),
        lambda: DecoderConfig(depth=0),
        lambda: DecoderConfig(s_max=-0.1),
        lambda: DecoderConfig(residual="none"),  # type: ignore[arg-type]
        lambda: DecoderConfig(color_rank=-1),
        lambda: SharpenerConfig(depth=3),
        lambda: PercHeadConfig(portrait_size=256),
    ],
)
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(InvalidInputError):
        make()  # type: ignore[operator]


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="light_s"):
        named_config("huge")


def test_differences_name_fields_and_values_but_not_the_label() -> None:
    base = named_config("base")
    assert base.differences(replace(base, name="mine")) == []
    found = base.differences(named_config("light"))
    assert "decoder.depth: 10 here, 4 there" in found
    assert any(line.startswith("sharpener") for line in found)


def test_differences_survive_json() -> None:
    mini = named_config("mini")
    assert mini.differences(PercHeadConfig.from_json(json.dumps(json.loads(mini.to_json())))) == []


@pytest.mark.parametrize(("cells", "steps"), [(1, 4), (-3, 4), (6, 0)])
def test_shifts_to_the_outline_need_cells_and_steps(cells: int, steps: int) -> None:
    with pytest.raises(InvalidInputError, match="warp_cells"):
        DecoderConfig(warp_cells=cells, silhouette_steps=steps)
