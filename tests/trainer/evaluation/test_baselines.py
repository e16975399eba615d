"""Baselines are training heads, and the small file holds them as far as their code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headlift.errors import CorruptWeightsError, IncompatibleWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint, weights_hash
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.model import PercHead
from headlift_trainer.commands.eval import BASELINES_FILE
from headlift_trainer.commands.eval_options import shipped_weights
from headlift_trainer.datasets.synthetic import SyntheticHeads
from headlift_trainer.evaluation.baselines import TrainingBaselines
from headlift_trainer.evaluation.coded_baselines import (
    add_note,
    coding_gap,
    encode_head,
    load_baselines,
    made_for,
    save_baselines,
)
from headlift_trainer.evaluation.held_out import HeldOutHeads
from headlift_trainer.head_code import fit_linear_code

TRAINED = (100, 101, 102, 103)


@pytest.fixture(scope="module")
def coded(shards: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[PercHead, Path]:
    """Weights whose head code was fitted to the training heads, as training does it."""
    model = load_checkpoint(tiny_checkpoint)[0]
    data = SyntheticHeads(shards, shards, model.template, TRAINED)
    assert isinstance(model, MiniHead)
    geometry = fit_linear_code(data.means, model.config.geometry_rank)
    color = fit_linear_code(data.colors, model.config.color_rank)
    model.morphable.fill(geometry.mean - model.decoder.anchors, geometry.basis, color.mean / 255, color.basis / 255)
    path = tmp_path_factory.mktemp("coded") / "coded.safetensors"
    save_checkpoint(path, model, Provenance(description="test"))
    return load_checkpoint(path)[0], path


def test_the_mean_head_is_the_mean_of_training_heads_and_of_no_held_out_one(tiny_model: PercHead, shards: Path) -> None:
    found = TrainingBaselines(tiny_model, shards, shards)
    assert [seed for seed, _ in found.entries] == list(TRAINED)
    expected = torch.stack([found.anchors(row)[0] for row in range(4)]).mean(0)
    assert torch.allclose(found.mean().means, expected, atol=1e-6)


def test_a_training_head_is_nearest_to_itself_in_every_stored_view(tiny_model: PercHead, shards: Path) -> None:
    found = TrainingBaselines(tiny_model, shards, shards)
    heads = HeldOutHeads(shards, TRAINED)
    for row, head in enumerate(heads):
        for view in (0, 3):
            assert found.nearest_row(head.pictures[view], view) == row
    with pytest.raises(InvalidInputError, match="looked up by rig views"):
        found.nearest_row(head.pictures[1], 1)


def test_a_coded_head_comes_back_and_its_thumbnail_finds_it(
    coded: tuple[PercHead, Path], shards: Path, tmp_path: Path
) -> None:
    model, weights = coded
    training = TrainingBaselines(model, shards, shards)
    path = tmp_path / "baselines.safetensors"
    save_baselines(path, model, weights, training)
    size = add_note(path, {"gap_mean_db": 0.25})
    assert size == path.stat().st_size < 200_000
    found = load_baselines(path, model, weights)
    assert isinstance(model, MiniHead)
    numbers = model.config.code_rank
    assert found.description == {"from": "file", "heads": 4, "numbers_a_head": numbers, "gap_mean_db": 0.25}
    assert torch.allclose(found.mean().means, training.mean().means, atol=2e-3)
    for row, head in enumerate(HeldOutHeads(shards, TRAINED)):
        means, colors = training.anchors(row)
        nearest = found.nearest(head.pictures[0], 0)
        mean = found.mean()
        assert (nearest.colors - colors).norm() < 0.7 * (mean.colors - colors).norm()
        assert (nearest.means - means).norm() < (mean.means - means).norm()
        again = encode_head(model, nearest.means, nearest.colors)
        assert torch.allclose(found.head(again).means, nearest.means, atol=1e-4)
    gap = coding_gap(training, found, HeldOutHeads(shards))
    assert abs(gap["gap_mean_db"]) < 0.1


def test_a_file_of_other_weights_or_of_nothing_is_refused(
    coded: tuple[PercHead, Path], tiny_checkpoint: Path, shards: Path, tmp_path: Path
) -> None:
    model, weights = coded
    path = tmp_path / "baselines.safetensors"
    with pytest.raises(MissingWeightsError, match="eval baselines"):
        load_baselines(path, model, weights)
    save_baselines(path, model, weights, TrainingBaselines(model, shards, shards))
    with pytest.raises(IncompatibleWeightsError, match="made for weights"):
        load_baselines(path, model, tiny_checkpoint)
    path.write_bytes(b"nothing")
    with pytest.raises(CorruptWeightsError, match="no file of baselines"):
        load_baselines(path, model, weights)


def test_a_code_is_the_best_one_though_its_basis_is_not_orthogonal(coded: tuple[PercHead, Path]) -> None:
    model = load_checkpoint(coded[1])[0]
    assert isinstance(model, MiniHead)
    code = model.morphable
    code.geometry_basis[1] += 0.5 * code.geometry_basis[0]
    wanted = torch.zeros(model.config.code_rank)
    wanted[:2] = torch.tensor([0.3, -0.2])
    offsets, colors = code.offsets(wanted[None]), code.colors(wanted[None])
    found = encode_head(model, model.decoder.anchors + offsets[0], colors[0])
    assert torch.allclose(code.offsets(found[None]), offsets, atol=1e-5)


def test_the_shipped_file_belongs_to_the_shipped_weights_and_both_stay_small() -> None:
    weights = shipped_weights()
    file = weights.with_name(BASELINES_FILE)
    assert made_for(file) == weights_hash(weights)
    assert weights.stat().st_size + file.stat().st_size < 60_000_000


def test_a_folder_without_training_heads_is_refused(tiny_model: PercHead, shards: Path) -> None:
    with pytest.raises(InvalidInputError, match="no training head"):
        TrainingBaselines(tiny_model, shards, shards, seeds=[0, 1])
