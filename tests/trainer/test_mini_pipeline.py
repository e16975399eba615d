"""The plan of the shipped weights: which heads, that nothing held out is trained on, and how it is stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import ConflictError
from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import named_config
from headlift.model.template import Template
from headlift_trainer import mini_pipeline
from headlift_trainer.mini_pipeline import (
    GracefulStop,
    InterruptedTrainingError,
    MiniPipeline,
    limited_to,
    seeds_of,
)
from headlift_trainer.recipes import MiniRecipe, mini
from headlift_trainer.recipes.mini import DecoderStage, HeadNetStage, SharpenerStage
from headlift_trainer.schedule import Schedule
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import target_path
from headlift_trainer.synthetic.source.seeds import HELD_OUT, SEED_RANGES, source_of


def test_every_source_has_its_share_and_all_held_out_heads_are_there() -> None:
    seeds = seeds_of(mini(heads=200), tuple(SEED_RANGES))
    trained = [seed for seed in seeds if seed not in HELD_OUT]
    assert set(seeds) >= HELD_OUT
    assert len(seeds) == len(set(seeds))
    counts = {name: sum(source_of(seed) == name for seed in trained) for name in SEED_RANGES}
    assert counts == {"makehuman": 120, "ict": 50, "procedural": 30}


def test_without_assets_all_heads_are_procedural() -> None:
    seeds = seeds_of(mini(heads=10), ("procedural",))
    assert {source_of(seed) for seed in seeds} == {"procedural"}
    assert sum(seed not in HELD_OUT for seed in seeds) == 10


def test_another_seed_draws_other_people() -> None:
    one, two = (set(seeds_of(mini(heads=50, seed=s), ("makehuman",))) - HELD_OUT for s in (0, 1))
    assert not one & two


def test_a_few_heads_get_a_code_of_no_more_numbers_than_they_can_tell() -> None:
    few, many = limited_to(mini(heads=6), 6), limited_to(mini(heads=600), 600)
    assert few.model.geometry_rank == 11
    assert few.model.color_rank == 23
    assert many.model.geometry_rank == 40
    assert few.thumbnails >= 1000  # the thumbnail head has hundreds of components
    assert many.thumbnails > few.thumbnails


def test_a_folder_of_another_plan_is_refused_and_more_workers_are_no_other_plan(tmp_path: Path) -> None:
    work = MiniPipeline(mini(heads=6), None, tmp_path, lambda line: None)
    with work.log.attempt("heads"):
        pass
    kept = json.loads((tmp_path / "steps.json").read_text())["plan"]
    assert kept["training_heads"] == {"procedural": 6}
    assert kept["first_seed"]["procedural"] not in HELD_OUT
    assert MiniPipeline(mini(heads=6), None, tmp_path, lambda line: None, workers=2).log.is_done("heads")
    with pytest.raises(ConflictError, match="pictures_minutes"):
        MiniPipeline(mini(heads=6, hours=2.0), None, tmp_path, lambda line: None)


def test_a_stop_waits_for_a_checkpoint_only_where_one_is_written_and_only_once() -> None:
    stop = GracefulStop()
    with pytest.raises(KeyboardInterrupt):
        stop.request()
    with stop.polled():
        stop.request()
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            stop.request()


SIZE, QUICK = 48, Schedule(steps=2, keep=1)


def write_shard(folder: Path, seed: int) -> None:
    """An egg of one colour, seen from the rig and from two more sides."""
    yaws = (0, 45, -45, 90, -90, 180, 0, 0, 20, -30)
    cameras = orbit_cameras(list(yaws), width=SIZE, height=SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    disc = (np.hypot(x / 9, y / 12) < 1).astype(np.uint8)[..., None]
    color = np.random.default_rng(seed).integers(60, 250, 3).astype(np.uint8)
    rgba = np.repeat(np.concatenate([disc * color, disc * 255], -1).astype(np.uint8)[None], len(yaws), 0)
    classes = np.where(rgba[..., 3] > 0, 2, 0).astype(np.uint8)
    np.savez(path_of(folder, seed, 0), rgba=rgba, classes=classes, viewmats=cameras.viewmats, Ks=cameras.Ks)


def write_target(folder: Path, seed: int, template: Template) -> None:
    rng = np.random.default_rng(seed)
    means = (template.anchors.numpy() * rng.normal(1, 0.05, 3)).astype(np.float16)
    np.savez(
        target_path(folder, seed), means=means, colors=rng.integers(0, 255, (1, len(means), 3)).astype(np.uint8),
        seen=np.full((1, len(means)), 255, np.uint8), hair=np.full((1, len(means) // 16), 128, np.uint8),
        template=template.sha256,
    )  # fmt: skip


@pytest.fixture
def toy(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> MiniRecipe:
    """A run of two steps each, on heads that are drawn rather than generated."""
    template = load_checkpoint(tiny_checkpoint)[0].template

    def generate(assets: Path | None, folder: Path, seeds: list[int], *_: int) -> Iterator[tuple[int, int]]:
        folder.mkdir(exist_ok=True)
        for number, seed in enumerate(seeds):
            write_shard(folder, seed)
            yield seed, number + 1

    def prepare(shards: Path, targets: Path, seeds: list[int], makers: object) -> None:
        targets.mkdir(exist_ok=True)
        for seed in seeds:
            write_target(targets, seed, template)

    monkeypatch.setattr(mini_pipeline, "builtin_template", lambda: template)
    monkeypatch.setattr(mini_pipeline, "landmark_rows", lambda template, count: torch.arange(count))
    monkeypatch.setattr(mini_pipeline, "generate", generate)
    monkeypatch.setattr(mini_pipeline, "prepare", prepare)
    monkeypatch.setattr(mini_pipeline, "TargetMakers", lambda *arguments: None)
    monkeypatch.setattr(mini_pipeline, "HELD_OUT", frozenset({80_000}))
    tiny = named_config("tiny")
    assert isinstance(tiny, MiniConfig)
    return replace(
        mini(heads=6),
        model=tiny,
        headnet=(HeadNetStage(32, 2, QUICK), HeadNetStage(48, 2, QUICK)),
        stages=(DecoderStage("pictures", replace(QUICK, precision="bf16"), batch_size=1, views=1),),
        sharpener=SharpenerStage(QUICK, render_minutes=0.0, worst_loss_db=100.0),
        thumbnails=320,
        device="cpu",
    )


def test_a_run_goes_on_where_it_was_stopped_and_releases_its_weights(toy: MiniRecipe, tmp_path: Path) -> None:
    stop = GracefulStop()

    def say(line: str) -> None:
        stop.requested = "pictures" in line

    with pytest.raises(InterruptedTrainingError):
        MiniPipeline(toy, None, tmp_path, say, stop)()
    assert not (tmp_path / "mini.safetensors").exists()
    log = MiniPipeline(toy, None, tmp_path, lambda line: None)()
    names = ["heads", "targets", "headnet_32", "headnet_48", "closed_forms", "pictures"]
    assert [step.name for step in log] == [*names, "renders", "sharpener", "release"]
    assert all(step.done for step in log)
    assert (log["closed_forms"].attempts, log["pictures"].attempts) == (1, 2)
    model, provenance = load_checkpoint(tmp_path / "mini.safetensors")
    assert isinstance(model, MiniHead)
    assert (provenance.steps, provenance.samples) == (2, 2)
    assert provenance.data == ("6 generated heads in 6 appearances, from our own code",)
    assert json.loads((tmp_path / "mini.json").read_text()).keys() >= {"sharpened_psnr", "novel_psnr", "landmark_nme"}
    assert not list(tmp_path.glob("after_*")) + list(tmp_path.glob("headnet_*.npy")) + list(tmp_path.glob("*.npz"))
    said: list[str] = []
    MiniPipeline(toy, None, tmp_path, said.append)()
    assert not said
