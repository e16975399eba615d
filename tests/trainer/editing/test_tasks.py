"""What the editor learns from: packed once, learned from, and judged on heads that nothing was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.cli import main
from headlift.errors import IncompatibleWeightsError, InvalidInputError
from headlift.model.checkpoint import Provenance, save_checkpoint
from headlift.model.edit.checkpoint import load_edit_weights, save_edit
from headlift.model.edit.model import EditEncoder, EditModel, named_edit_config
from headlift.model.edit.style import StyleModel
from headlift.model.perchead.model import PercHead
from headlift_trainer.editing import pipeline
from headlift_trainer.editing.data import SIDE, VIEWS, EditHeads, pack_heads
from headlift_trainer.editing.figures import grown_hair, mean_iou, reference_colors
from headlift_trainer.recipes.editor import editor
from headlift_trainer.tasks.clip import ClipTask, fit_traits, name_values, retrieval, zero_shot
from headlift_trainer.tasks.interface import Task
from headlift_trainer.tasks.painter import PainterTask, fit_class_colors, flipped, painting_losses

Sets = tuple[EditHeads, EditHeads]


def drawn_loss(task: Task, seed: int) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return task.loss(task.draw(generator), generator)


def test_heads_are_packed_by_whether_they_are_held_out(sets: Sets) -> None:
    train, held_out = sets
    assert (len(train), len(held_out)) == (12, 4)
    assert max(held_out.seeds) < 4 <= min(train.seeds)
    picture, labels = train.select(torch.tensor([0, 1]), torch.tensor([0, 2]))
    assert picture.shape == (2, 4, SIDE, SIDE)
    assert labels.shape == (2, SIDE, SIDE)
    assert torch.equal(picture[:, 3] > 0.5, labels > 0)
    assert train.features.shape[:2] == (12, len(VIEWS))


def test_a_pack_is_taken_as_it_is_until_the_heads_change(
    shards: Path, reconstruction: PercHead, tmp_path: Path
) -> None:
    net = reconstruction.encoder.headnet
    assert net is not None
    pack_heads(shards, [0, 1], net, tmp_path)
    stamp = (tmp_path / "features.npy").stat().st_mtime_ns
    pack_heads(shards, [0, 1], net, tmp_path)
    assert (tmp_path / "features.npy").stat().st_mtime_ns == stamp
    assert len(pack_heads(shards, [0], net, tmp_path)) == 1
    with pytest.raises(InvalidInputError, match="run `headlift synth`"):
        pack_heads(shards, [7777], net, tmp_path)


def test_the_small_clip_learns_to_tell_hair_colours(sets: Sets, style: StyleModel) -> None:
    pytest.importorskip("open_clip")
    train, held_out = sets
    task = ClipTask(style, train, held_out, batch_size=12)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    first = None
    for step in range(60):
        loss, parts = drawn_loss(task, step)
        first = first or float(parts["named"].detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    style.eval()
    assert first is not None
    assert float(parts["named"]) < 0.6 * first
    figures = task.figures()
    assert figures["zero_shot_hair_color"] >= 0.75
    assert figures["retrieval_of"] == 4
    assert 0 < fit_traits(style, train) <= 1
    looks = style.embed_features(held_out.features[:, 0])
    edited = torch.stack([style.embed_change("red hair", look) for look in looks])
    assert name_values(style, edited, "hair color").count("red") >= 3


def test_the_same_generator_gives_the_same_loss(sets: Sets, style: StyleModel) -> None:
    pytest.importorskip("open_clip")
    task = ClipTask(style.eval(), *sets, batch_size=6)
    losses = [float(drawn_loss(task, 3)[0].detach()) for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_perfect_clip_would_retrieve_everything(sets: Sets, style: StyleModel) -> None:
    """Figures of an untrained model are chance, and between 0 and 1."""
    found = retrieval(style, sets[1]) | zero_shot(style, sets[1])
    assert all(0 <= value <= 1 for name, value in found.items() if name != "retrieval_of")
    assert found["commonest_hat"] == 1.0  # nobody wears one


def test_the_painter_learns_the_colours_of_a_look(sets: Sets, style: StyleModel, reconstruction: PercHead) -> None:
    train, held_out = sets
    net = reconstruction.encoder.headnet
    assert net is not None
    torch.manual_seed(1)
    encoder = EditEncoder(named_edit_config("tiny"))
    style.eval()
    task = PainterTask(encoder, style, net, train, held_out, batch_size=4)
    assert encoder.neutral.norm() == pytest.approx(1, abs=1e-5)
    before = task.figures()["painted_psnr"]
    fit_class_colors(encoder, style, train, steps=120)
    assert task.figures()["painted_psnr"] > before + 3
    loss, parts = drawn_loss(task, 0)
    loss.backward()
    assert set(parts) == {"color", "edges", "features"}
    assert all(p.grad is not None for name, p in encoder.named_parameters() if name.startswith("painter.up"))
    assert task.pictures()["painted"].dim() == 3


def test_a_true_picture_has_no_painting_loss(sets: Sets, reconstruction: PercHead) -> None:
    net = reconstruction.encoder.headnet
    assert net is not None
    pictures, _ = sets[0].select(torch.arange(3), torch.zeros(3, dtype=torch.int64))
    assert all(float(v) < 0.02 for v in painting_losses(net, pictures, pictures).values())
    dark = torch.cat([pictures[:, :3] * 0.3, pictures[:, 3:]], 1)
    assert float(painting_losses(net, dark, pictures)["color"]) > 0.1


def test_mirroring_swaps_the_persons_sides() -> None:
    labels = torch.zeros(2, 4, 4, dtype=torch.uint8)
    labels[:, 0, 0], labels[:, 1, 0], labels[:, 2, 0] = 4, 8, 14
    pictures = torch.rand(2, 4, 4, 4)
    mirrored, maps = flipped(pictures, labels, torch.tensor([True, False]))
    assert (maps[0, 0, 3], maps[0, 1, 3], maps[0, 2, 3]) == (5, 9, 14)
    assert torch.equal(maps[1], labels[1])
    assert torch.equal(mirrored[0], pictures[0].flip(-1))
    assert torch.equal(mirrored[1], pictures[1])


def test_figures_measure_what_they_say(sets: Sets) -> None:
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[20:50, 20:44], labels[12:22, 20:44] = 2, 14
    grown = grown_hair(labels)
    assert bool((grown[labels > 0] == labels[labels > 0]).all())  # only background is painted
    assert (grown == 14).sum() > 1.5 * (labels == 14).sum()
    assert not (grown[50:] == 14).any()  # never below the chin
    assert torch.equal(grown_hair(labels * (labels != 14)), labels * (labels != 14))
    assert mean_iou(labels, labels, 19) == 1
    assert mean_iou(torch.zeros_like(labels), labels, 19) < 0.4
    references = reference_colors(sets[0])
    assert references["hair color", "red"][0] > references["hair color", "black"][0]


def test_the_commands_train_and_judge_an_editor(
    shards: Path, reconstruction: PercHead, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("open_clip")
    base, out = tmp_path / "base.safetensors", tmp_path / "run"
    save_checkpoint(base, reconstruction, Provenance())
    common = ["--shards", str(shards), "--reconstruction", str(base), "--json"]
    train = [
        "train",
        "editor",
        *common,
        "--out",
        str(out),
        "--size",
        "tiny",
        "--clip-minutes",
        "0.02",
        "--minutes",
        "0.02",
    ]
    assert main(train) == 0
    assert json.loads(capsys.readouterr().out)["finished"]
    found = load_edit_weights(out / "mini_edit.safetensors", reconstruction)
    assert found.style is not None
    assert "12 generated heads" in found.provenance.data[0]
    sheet = tmp_path / "sheet.png"
    judge = ["eval", "edit", *common, "--cache", str(out / "packed"), "--limit", "2", "--sheet", str(sheet)]
    assert main([*judge, "--weights", str(out / "mini_edit.safetensors")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["edits"]["silhouette_iou_style_edit"] == 1.0  # a look moves nothing
    assert figures["edits"]["moved_mm_style_edit"] == 0.0
    assert np.isfinite(list(figures["edits"].values())).all()
    assert sheet.stat().st_size > 1000
    assert (tmp_path / "sheet-styles.png").is_file()


def test_weights_of_one_headnet_begin_the_training_with_another(
    shards: Path, reconstruction: PercHead, style: StyleModel, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    before = EditModel(named_edit_config("tiny"), reconstruction)
    save_edit(start, before, style, Provenance())
    other = deepcopy(reconstruction)
    with torch.no_grad():
        for value in other.encoder.headnet.parameters():  # type: ignore[union-attr]
            value.add_(0.01 * torch.randn_like(value))
    config = editor("tiny", clip_minutes=0.01, minutes=0.0)
    result = pipeline.train_editor(shards, tmp_path / "run", other, config, start=start, quiet=True)
    found = load_edit_weights(result.file, other)  # goes with the other one now
    assert found.style is not None
    assert found.style.vocabulary == style.vocabulary
    after = found.model.encoder.state_dict()
    for name, value in before.encoder.vit.state_dict(prefix="vit.").items():
        assert (after[name] - value).abs().max() < 0.05, name  # a step or two from where it began
    with pytest.raises(IncompatibleWeightsError, match="another size"):
        pipeline.train_editor(shards, tmp_path / "none", other, editor(clip_minutes=0.01, minutes=0.0), start=start)
