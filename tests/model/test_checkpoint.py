"""Checkpoints carry everything, and refuse what does not fit."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint, weights_hash
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.template import Template

ORIGIN = Provenance("a test", "Apache-2.0", ("heads (CC0)",), 7, 70, "2026-11-21T00:00:00Z", "abc", {"psnr": 22.5})


def test_a_round_trip_gives_the_same_head_bit_for_bit(
    model: PercHead, portraits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, model, ORIGIN)
    loaded, provenance = load_checkpoint(path, expect=model.config)
    assert provenance == ORIGIN
    assert loaded.config == model.config
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    for a, b in zip(model(*portraits), loaded(*portraits), strict=True):
        assert torch.equal(a.means, b.means)
        assert torch.equal(a.colors, b.colors)


def test_the_template_travels_along(model: PercHead, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.safetensors", model, ORIGIN)
    template = load_checkpoint(tmp_path / "m.safetensors")[0].template
    for f in fields(Template):
        ours, theirs = getattr(model.template, f.name), getattr(template, f.name)
        if isinstance(ours, Tensor):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
        else:
            assert ours == theirs


def test_half_precision_halves_the_weights_and_keeps_the_anchors_exact(model: PercHead, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "full", model, ORIGIN)
    save_checkpoint(tmp_path / "half", model, ORIGIN, dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.8 * (tmp_path / "full").stat().st_size
    loaded, _ = load_checkpoint(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    assert torch.equal(loaded.decoder.anchors, model.decoder.anchors)
    for a, b in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_a_release_stores_the_bases_as_bytes_and_reads_them_back_nearly_equal(
    template: Template, tmp_path: Path
) -> None:
    model = PercHead(named_config("tiny"), template)
    code = model.decoder.head_code
    assert code is not None
    values = torch.randn(code.geometry_basis.shape, generator=torch.Generator().manual_seed(0))
    values[0] = 0.0  # a component that was never filled
    values[1] *= 1e-4
    code.geometry_basis.copy_(values)
    save_checkpoint(tmp_path / "release", model, ORIGIN, dtype=torch.float16)
    loaded = load_checkpoint(tmp_path / "release")[0].decoder.head_code
    assert loaded is not None
    error = (loaded.geometry_basis - values).abs().flatten(1).amax(1)
    assert (error <= 0.51 / 127 * values.abs().flatten(1).amax(1)).all()
    assert not torch.equal(loaded.geometry_basis, values)


def test_the_weights_hash_is_that_of_the_file(model: PercHead, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    told = save_checkpoint(path, model, ORIGIN)
    assert told == weights_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_saving_twice_gives_the_same_bytes(model: PercHead, tmp_path: Path) -> None:
    assert save_checkpoint(tmp_path / "a", model, ORIGIN) == save_checkpoint(tmp_path / "b", model, ORIGIN)


def test_another_config_is_refused_with_both_named(model: PercHead, tmp_path: Path) -> None:
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


def test_truncated_foreign_and_bit_flipped_files_are_corrupt(model: PercHead, tmp_path: Path) -> None:
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


def test_provenance_of_a_later_version_is_read(model: PercHead) -> None:
    assert Provenance.from_json('{"description": "x", "teacher": "y"}') == Provenance("x")
    assert Provenance.from_json(ORIGIN.to_json()) == ORIGIN
    assert model.config != named_config("base")
