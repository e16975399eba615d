"""Configs survive JSON and refuse nonsense."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from headlift.errors import InvalidInputError
from headlift.model.checks import config_differences, config_from_json, config_to_json
from headlift.model.mini.config import MiniConfig
from headlift.model.perchead.config import DecoderConfig, PercHeadConfig
from headlift.model.sizes import CONFIGS, named_config


@pytest.mark.parametrize("name", CONFIGS)
def test_json_round_trip_changes_nothing(name: str) -> None:
    config = named_config(name)
    assert config.name == name
    assert config_from_json(type(config), config_to_json(config)) == config


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
        config_from_json(PercHeadConfig, text)


def test_absent_fields_take_their_defaults() -> None:
    assert config_from_json(PercHeadConfig, '{"decoder": {"depth": 4}}').decoder == DecoderConfig(depth=4)


def test_differences_name_fields_and_values_but_not_the_label() -> None:
    base = named_config("base")
    assert config_differences(base, replace(base, name="mine")) == []
    found = config_differences(base, named_config("light"))
    assert "decoder.depth: 10 here, 4 there" in found
    assert any(line.startswith("sharpener") for line in found)


def test_differences_survive_json() -> None:
    mini = named_config("mini")
    assert config_differences(mini, config_from_json(MiniConfig, json.dumps(json.loads(config_to_json(mini))))) == []


def test_bad_json_of_a_mini_is_refused_with_the_place() -> None:
    with pytest.raises(InvalidInputError, match=r"encoder\.headnet has unknown keys: width"):
        config_from_json(MiniConfig, '{"encoder": {"headnet": {"width": 3}}}')
