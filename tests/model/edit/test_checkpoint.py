"""Editing weights come back as they were, and only beside the HeadNet that they were trained with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headlift.errors import CorruptWeightsError, IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import Provenance
from headlift.model.edit.checkpoint import load_edit_weights, save_edit
from headlift.model.edit.complexion import Complexion
from headlift.model.edit.map_words import MapWords
from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.edit.style import StyleModel, Vocabulary, feature_width
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.template import Template

WORDS = Vocabulary(("hair", "red"), (("crimson", "red"),), ("a",), (("hair color", "red", ("red hair",)),))


@pytest.fixture
def model(template: Template, mini_config: MiniConfig) -> EditModel:
    torch.manual_seed(0)
    return EditModel(named_edit_config("tiny"), MiniHead(mini_config, template))


@pytest.fixture
def style(model: EditModel) -> StyleModel:
    assert isinstance(model.reconstruction, MiniHead)
    headnet = model.reconstruction.config.encoder.headnet
    config = model.config.style
    assert config is not None
    return StyleModel(config, WORDS, feature_width(headnet))


def test_weights_words_and_provenance_come_back(model: EditModel, style: StyleModel, tmp_path: Path) -> None:
    file = tmp_path / "edit.safetensors"
    save_edit(file, model, style, Provenance(description="made for a test"))
    found = load_edit_weights(file, model.reconstruction)
    assert found.provenance.description == "made for a test"
    assert found.style is not None
    assert found.style.vocabulary == WORDS
    assert found.model.config == model.config
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(found.model.encoder.state_dict()[name], value.half().float()), name
    assert not any(p.requires_grad for p in found.model.parameters())


def test_outlines_come_back_where_there_are_any(model: EditModel, style: StyleModel, tmp_path: Path) -> None:
    outlines = MapWords()
    outlines.hair.normal_()
    save_edit(tmp_path / "with", model, style, Provenance(), outlines=outlines)
    save_edit(tmp_path / "without", model, style, Provenance())
    found = load_edit_weights(tmp_path / "with", model.reconstruction).outlines
    assert found is not None
    assert torch.equal(found.hair, outlines.hair.half().float())
    assert load_edit_weights(tmp_path / "without", model.reconstruction).outlines is None


def test_complexions_come_back_where_there_are_any(model: EditModel, style: StyleModel, tmp_path: Path) -> None:
    complexion = Complexion(3, len(model.reconstruction.decoder.anchors), 16)
    complexion.colors.normal_()
    save_edit(tmp_path / "with", model, style, Provenance(), complexion=complexion)
    save_edit(tmp_path / "without", model, style, Provenance())
    found = load_edit_weights(tmp_path / "with", model.reconstruction).complexion
    assert found is not None
    assert torch.equal(found.colors, complexion.colors.half().float())
    assert load_edit_weights(tmp_path / "without", model.reconstruction).complexion is None
    other = Complexion(1, 7, 16)
    save_edit(tmp_path / "odd", model, style, Provenance(), complexion=other)
    with pytest.raises(CorruptWeightsError):
        load_edit_weights(tmp_path / "odd", model.reconstruction)


def test_equal_weights_are_equal_files(model: EditModel, style: StyleModel, tmp_path: Path) -> None:
    digests = [save_edit(tmp_path / n, model, style, Provenance()) for n in ("one", "two")]
    assert digests[0] == digests[1]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_another_headnet_is_refused(
    model: EditModel, style: StyleModel, template: Template, mini_config: MiniConfig, tmp_path: Path
) -> None:
    file = tmp_path / "edit.safetensors"
    save_edit(file, model, style, Provenance())
    torch.manual_seed(1)
    other = MiniHead(mini_config, template)
    with pytest.raises(IncompatibleWeightsError, match="HeadNet"):
        load_edit_weights(file, other)
    found = load_edit_weights(file, other, other_headnet=True)  # to be trained on
    assert found.style is not None
    torch.testing.assert_close(found.style.state_dict(), style.state_dict(), atol=2e-3, rtol=2e-3)


def test_a_fine_tuned_decoder_travels_with_the_weights(
    model: EditModel, style: StyleModel, template: Template, mini_config: MiniConfig, tmp_path: Path
) -> None:
    file = tmp_path / "edit.safetensors"
    other = MiniHead(mini_config, template)
    other.load_state_dict(model.reconstruction.state_dict())
    with torch.no_grad():
        model.reconstruction.decoder.norm.weight.fill_(2.0)
    save_edit(file, model, style, Provenance(), tuned=True)
    load_edit_weights(file, other)
    assert torch.equal(other.decoder.norm.weight, model.reconstruction.decoder.norm.weight)


def test_what_is_no_editing_file_is_refused(model: EditModel, style: StyleModel, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError):
        load_edit_weights(tmp_path / "nothing", model.reconstruction)
    file = tmp_path / "edit.safetensors"
    save_edit(file, model, style, Provenance())
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CorruptWeightsError, match="checksum"):
        load_edit_weights(file, model.reconstruction)
    file.write_bytes(bytes(data[: len(data) // 2]))
    with pytest.raises(CorruptWeightsError, match="whole"):
        load_edit_weights(file, model.reconstruction)
