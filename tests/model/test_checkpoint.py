"""Checkpoints carry everything, and refuse what does not fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import headlift.weights
from headlift.errors import CorruptWeightsError, IncompatibleWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.checkpoint import (
    FORMAT,
    Provenance,
    load_checkpoint,
    save_checkpoint,
    tensors_digest,
    weights_hash,
)
from headlift.model.checkpoint_v1 import FORMAT_V1, config_of_v1
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.encoder import Backbone
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import HeadModel, named_config
from headlift.model.template import Template

SHIPPED = Path(headlift.weights.__file__).parent / "mini.safetensors"
ORIGIN = Provenance("a test", "Apache-2.0", ("heads (CC0)",), 7, 70, "2026-11-21T00:00:00Z", "abc", {"psnr": 22.5})


def test_a_round_trip_gives_the_same_head_bit_for_bit(
    model: HeadModel, backbone: Backbone, portraits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, model, ORIGIN)
    loaded, provenance = load_checkpoint(
        path, expect=model.config, backbone=backbone if isinstance(model, PercHead) else None
    )
    assert provenance == ORIGIN
    assert loaded.config == model.config
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    for a, b in zip(model(*portraits), loaded(*portraits), strict=True):
        assert torch.equal(a.means, b.means)
        assert torch.equal(a.colors, b.colors)


def test_files_say_their_format_and_kind(model: HeadModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", model, ORIGIN)
    with safe_open(tmp_path / "m", framework="pt") as file:
        described = json.loads(file.metadata()[FORMAT])
    assert described["kind"] == ("mini" if isinstance(model, MiniHead) else "perchead")


def test_the_template_travels_along(model: HeadModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.safetensors", model, ORIGIN)
    template = load_checkpoint(tmp_path / "m.safetensors")[0].template
    for f in fields(Template):
        ours, theirs = getattr(model.template, f.name), getattr(template, f.name)
        if isinstance(ours, Tensor):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
        else:
            assert ours == theirs


def test_half_precision_halves_the_weights_and_keeps_the_anchors_exact(model: HeadModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "full", model, ORIGIN)
    save_checkpoint(tmp_path / "half", model, ORIGIN, dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.8 * (tmp_path / "full").stat().st_size
    loaded, _ = load_checkpoint(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert torch.equal(loaded.decoder.anchors, model.decoder.anchors)
    for a, b in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_a_release_stores_the_bases_as_bytes_and_reads_them_back_nearly_equal(mini: MiniHead, tmp_path: Path) -> None:
    model, code = mini, mini.morphable
    values = torch.randn(code.geometry_basis.shape, generator=torch.Generator().manual_seed(0))
    values[0] = 0.0  # a component that was never filled
    values[1] *= 1e-4
    code.geometry_basis.copy_(values)
    save_checkpoint(tmp_path / "release", model, ORIGIN, dtype=torch.float16)
    released = load_checkpoint(tmp_path / "release")[0]
    assert isinstance(released, MiniHead)
    loaded = released.morphable
    error = (loaded.geometry_basis - values).abs().flatten(1).amax(1)
    assert (error <= 0.51 / 127 * values.abs().flatten(1).amax(1)).all()
    assert not torch.equal(loaded.geometry_basis, values)


def test_the_weights_hash_is_that_of_the_file(model: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    told = save_checkpoint(path, model, ORIGIN)
    assert told == weights_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_saving_twice_gives_the_same_bytes(model: HeadModel, tmp_path: Path) -> None:
    assert save_checkpoint(tmp_path / "a", model, ORIGIN) == save_checkpoint(tmp_path / "b", model, ORIGIN)


def test_another_config_is_refused_with_both_named(model: HeadModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", model, ORIGIN)
    wanted = replace(model.config, name="wanted", decoder=replace(model.config.decoder, depth=3))
    with pytest.raises(IncompatibleWeightsError) as caught:
        load_checkpoint(tmp_path / "m", expect=wanted)
    for told in (model.config.name, "wanted", "decoder.depth: 2 here, 3 there"):
        assert told in caught.value.message


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    for load in (load_checkpoint, weights_hash):
        with pytest.raises(MissingWeightsError, match=r"nothing\.safetensors") as caught:
            load(tmp_path / "nothing.safetensors")
        assert str(tmp_path) not in caught.value.message


def test_truncated_foreign_and_bit_flipped_files_are_corrupt(model: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, model, ORIGIN)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for damaged in (b"", whole[:50], whole[: len(whole) // 2], b"not a checkpoint" * 20, bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(CorruptWeightsError, match=r"m\.safetensors"):
            load_checkpoint(path)


def test_a_safetensors_file_of_somebody_else_is_corrupt(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(CorruptWeightsError, match="no checkpoint of ours"):
        load_checkpoint(tmp_path / "other")


def test_provenance_of_a_later_version_is_read(model: HeadModel) -> None:
    assert Provenance.from_json('{"description": "x", "teacher": "y"}') == Provenance("x")
    assert Provenance.from_json(ORIGIN.to_json()) == ORIGIN
    assert model.config != named_config("base")


# -- the first format ---------------------------------------------------------------------------------------------


def shipped_v1() -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors of the shipped file and its description, whose config is text of its own."""
    with safe_open(SHIPPED, framework="pt") as file:
        description = json.loads(file.metadata()[FORMAT_V1])
        return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118 - not a dict


def test_the_shipped_file_of_the_first_format_loads_and_goes_on_in_the_second(tmp_path: Path) -> None:
    tensors, _ = shipped_v1()
    model, provenance = load_checkpoint(SHIPPED, expect=named_config("mini"))
    assert isinstance(model, MiniHead)
    torch.testing.assert_close(model.decoder.anchors, tensors["decoder.anchors"])
    torch.testing.assert_close(
        model.guidance.token_maps.weight, tensors["decoder.guidance.token_maps.weight"].float(), rtol=0, atol=0
    )
    torch.testing.assert_close(
        model.morphable.mean_offsets, tensors["decoder.head_code.mean_offsets"].float(), rtol=0, atol=0
    )
    save_checkpoint(tmp_path / "again", model, provenance)
    again, same = load_checkpoint(tmp_path / "again", expect=model.config)
    assert same == provenance
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def first_config() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(str(shipped_v1()[1]["config"]))
    return found


@pytest.mark.parametrize(
    "switch", ["geometry_rank", "color_rank", "code_doubt", "silhouette_steps", "warp_cells", "closed", "hair_grain"]
)
def test_a_first_config_with_some_of_minis_switches_is_refused(switch: str) -> None:
    values = first_config()
    assert config_of_v1(json.dumps(values)) == named_config("mini")
    values["decoder"][switch] = 0
    with pytest.raises(InvalidInputError):
        config_of_v1(json.dumps(values))


@pytest.mark.parametrize("text", ["{", "[]", "3", "null", '{"encoder": 3, "decoder": {}}', '{"encoder": {}}'])
def test_a_first_config_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        config_of_v1(text)


@pytest.mark.parametrize("text", ["{", "[]", '{"encoder": {}, "decoder": {"colour": 1}}'])
def test_files_of_the_first_format_with_such_configs_are_corrupt(text: str, tmp_path: Path) -> None:
    tensors, description = shipped_v1()
    few = {"decoder.anchors": tensors["decoder.anchors"]}
    told = description | {"config": text, "tensors_sha256": tensors_digest(few)}
    save_file(few, tmp_path / "old", metadata={FORMAT_V1: json.dumps(told)})
    with pytest.raises(CorruptWeightsError, match="unreadable description"):
        load_checkpoint(tmp_path / "old")
