"""The shipped weights' tasks, and the ablation from one shared start. Tiny data and network."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.headnet import HeadNet, save_headnet
from headlift.model.mini.landmark_fit import LandmarkErrors
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import named_config
from headlift.model.template import Template
from headlift.model.types import FOCAL
from headlift_trainer.ablation import INPUTS, measured, run_ablation, tables
from headlift_trainer.closed_form import fill_head_code, fit_closed_forms, fit_hair, split
from headlift_trainer.datasets.synthetic import MIRROR, Corpus, SyntheticHeads, mirrored
from headlift_trainer.evaluation.in_memory import evaluate
from headlift_trainer.loop import run
from headlift_trainer.provenance import TrainingCost
from headlift_trainer.recipes import mini
from headlift_trainer.recipes.ablation import ablation
from headlift_trainer.recipes.mini import DecoderStage
from headlift_trainer.schedule import Schedule
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import target_path
from headlift_trainer.synthetic.render.views import RIG_DEG
from headlift_trainer.tasks.mini import MiniTask, load_mini, save_checkpoint
from headlift_trainer.tasks.sharpener import SharpenerTask, StoredRenders, store_renders

SIZE, HELD, TRAINED = 48, (0, 80_000), tuple(range(80_100, 80_106))
QUICK = Schedule(
    steps=4, learning_rate=2e-3, warmup_steps=2, weight_decay=0.01, ema_decay=0.995, precision="bf16", keep=1
)
PICTURES = DecoderStage("pictures", QUICK, batch_size=2, views=1, perceptual_weight=0.5)
TINY = named_config("tiny")
assert isinstance(TINY, MiniConfig)
CONFIG = replace(mini(), name="toy", model=TINY, stages=(PICTURES,), thumbnails=320, device="cpu")


@pytest.fixture(scope="module")
def template(tiny_checkpoint: Path) -> Template:
    return load_checkpoint(tiny_checkpoint)[0].template


@pytest.fixture(scope="module")
def folder(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eggs of one colour each, seen from the rig and from two more sides."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    yaws, pitches = zip(*RIG_DEG, (20, 5), (-30, 0), strict=True)
    cameras = orbit_cameras(list(yaws), list(pitches), width=SIZE, height=SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    disc = (np.hypot(x / 9, y / 12) < 1).astype(np.uint8)
    for seed in (*HELD, *TRAINED):
        color = rng.integers(60, 250, 3).astype(np.uint8)
        rgba = np.concatenate([disc[..., None] * color, disc[..., None] * 255], -1).astype(np.uint8)
        np.savez(
            path_of(folder, seed, 0), rgba=np.repeat(rgba[None], len(yaws), 0), viewmats=cameras.viewmats, Ks=cameras.Ks
        )
        means = template.anchors.numpy() * rng.normal(1, 0.05, 3)
        np.savez(
            target_path(folder, seed),
            means=means.astype(np.float16),
            colors=np.broadcast_to(color, (1, len(means), 3)),
            seen=np.full((1, len(means)), 255, np.uint8),
            hair=np.full((1, len(means) // 16), 128, np.uint8),
            template=template.sha256,
        )
    return folder


@pytest.fixture(scope="module")
def corpus(folder: Path, template: Template) -> Corpus:
    return Corpus.of(folder, folder, template, list(TRAINED), list(HELD))


@pytest.fixture(scope="module")
def start(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with closed forms."""
    folder = tmp_path_factory.mktemp("start")
    encoder = CONFIG.model.encoder
    torch.manual_seed(1)
    rows = torch.arange(encoder.headnet.landmarks)
    save_headnet(folder / "headnet.safetensors", HeadNet(encoder.headnet, rows), {})
    model, figures = fit_closed_forms(CONFIG, corpus.train, folder / "headnet.safetensors")
    figures |= evaluate(model, corpus.held_out, corpus.train)
    assert figures["novel_psnr"] > 5
    save_checkpoint(model, CONFIG, folder / "start.safetensors", corpus.train, TrainingCost(3.0, 1, 2), figures)
    return folder / "start.safetensors"


def opened(start: Path) -> MiniHead:
    return load_mini(start, CONFIG.model).train()


def test_a_checkpoint_says_where_its_heads_are_from(start: Path) -> None:
    provenance = load_checkpoint(start)[1]
    assert provenance.data == ("6 generated heads in 6 appearances, from our own code",)
    assert (provenance.steps, provenance.samples) == (1, 2)


@torch.no_grad()
def test_closed_forms_learn_how_landmarks_err_together(start: Path, corpus: Corpus) -> None:
    """From every training picture that is like a portrait: here the front view and the two beside the rig."""
    model, data = opened(start).eval(), corpus.train
    net, learned = model.encoder.headnet, model.encoder.landmark_errors
    side, found = model.config.encoder.image_size, []
    for view in (0, 8, 9):
        pictures = data.pictures[:, view, ..., :3].permute(0, 3, 1, 2).float() / 255
        said, _ = net.read(torch.nn.functional.interpolate(pictures, (side, side), mode="area"))
        points = data.means[data.geometry][:, net.landmark_rows].float()
        local = points @ data.viewmats[:, view, :3, :3].mT + data.viewmats[:, view, None, :3, 3]
        truth = 0.5 + FOCAL * local[..., :2] / local[..., 2:]
        found.append((said.landmarks - truth) / said.spread.clamp_min(0.003)[..., None])
    expected = LandmarkErrors(net.config.landmarks)
    expected.fill(torch.cat(found))
    torch.testing.assert_close(learned.whitening, expected.whitening, rtol=1e-2, atol=1e-3)
    assert (learned.whitening - LandmarkErrors(net.config.landmarks).whitening).abs().max() > 0.01


def test_a_stage_goes_on_exactly_where_it_was_stopped(start: Path, corpus: Corpus, tmp_path: Path) -> None:
    def trained(folder: str, steps: int) -> tuple[MiniHead, float | None, int | None]:
        task = MiniTask(opened(start), corpus, PICTURES)
        found = run(task, replace(QUICK, steps=steps), tmp_path / folder, quiet=True)
        return task.model, found.loss, found.resumed_from

    seen = []

    def stop() -> bool:
        seen.append(None)
        return len(seen) == 2

    whole, loss, _ = trained("whole", 4)
    task = MiniTask(opened(start), corpus, PICTURES)
    half = run(task, QUICK, tmp_path / "halves", quiet=True, stop=stop)
    assert (half.finished, half.steps) == (False, 2)
    again, again_loss, resumed = trained("halves", 4)
    assert resumed == 2
    assert again_loss == loss
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_stage_leaves_closed_forms_and_headnet_alone(start: Path, corpus: Corpus, tmp_path: Path) -> None:
    before, model = opened(start), opened(start)
    task = MiniTask(model, corpus, PICTURES)
    figures = run(task, replace(QUICK, steps=2), tmp_path, quiet=True).figures
    assert {"novel_psnr", "mean_novel_psnr", "nearest_novel_psnr"} <= set(figures)
    after = dict(model.named_parameters())
    changed = {name for name, value in before.named_parameters() if not torch.equal(value, after[name])}
    assert changed
    assert not any(name.startswith(("encoder.headnet", "encoder.thumbnail", "sharpener")) for name in changed)


def test_a_stage_lowers_the_loss(start: Path, corpus: Corpus, tmp_path: Path) -> None:
    model = opened(start)
    task = MiniTask(model, corpus, PICTURES)

    def loss() -> float:
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            return float(task.loss(task.draw(generator), generator)[0])

    before = loss()
    run(task, replace(QUICK, steps=12), tmp_path)
    assert loss() < before


def test_targets_of_another_template_are_refused(folder: Path, template: Template) -> None:
    with pytest.raises(InvalidInputError, match="another template"):
        SyntheticHeads(folder, folder, replace(template, sha256="f" * 64), TRAINED)


def test_targets_without_hair_are_refused(folder: Path, template: Template, tmp_path: Path) -> None:
    with np.load(target_path(folder, TRAINED[0])) as found:
        np.savez(target_path(tmp_path, TRAINED[0]), **{name: found[name] for name in found if name != "hair"})
    with pytest.raises(InvalidInputError, match="where hair is"):
        SyntheticHeads(folder, tmp_path, template, TRAINED[:1])


def test_the_guess_is_judged_by_heads_that_it_has_not_learned_from(corpus: Corpus) -> None:
    learned, held_back = split(corpus.train)
    geometry = corpus.train.geometry
    assert len(learned)
    assert len(held_back)
    assert not set(geometry[learned].tolist()) & set(geometry[held_back].tolist())
    assert len(learned) + len(held_back) == len(corpus.train)
    batch = corpus.train.sample(
        8, torch.Generator().manual_seed(0), views=torch.ones(1), augmentation="none", among=held_back
    )
    own = corpus.train.means[geometry[held_back]].float()
    either = torch.cat([own, own[:, corpus.train.template.mirror] * MIRROR])  # half of a batch is mirrored
    assert all((either - means).abs().amax((1, 2)).min() < 1e-6 for means in batch.means)


def test_hair_that_comes_with_a_shape_is_foretold_from_the_shape(corpus: Corpus) -> None:
    model = MiniHead(CONFIG.model, corpus.train.template)
    codes = fill_head_code(model, corpus.train)
    code = codes.geometry.project(corpus.train.means.float())
    wide = (code[:, :1] > 0).to(torch.uint8) * 255
    told = replace_hair(corpus.train, wide.expand(-1, corpus.train.hair.shape[1]))
    mean, basis = fit_hair(codes.geometry, told)
    foretold = mean + code @ basis
    assert (foretold[wide[:, 0] > 0].mean() - foretold[wide[:, 0] == 0].mean()) > 0.5


def replace_hair(data: SyntheticHeads, hair: torch.Tensor) -> SyntheticHeads:
    changed = copy(data)
    changed.hair = hair[data.geometry]
    return changed


def test_a_mirrored_head_mirrored_again_is_the_head(corpus: Corpus) -> None:
    data = corpus.train
    batch = data.batch(torch.tensor([1, 2]), torch.tensor([1, 3]))
    chosen = torch.tensor([True, False])
    once = mirrored(batch, chosen, data.template.mirror)
    twice = mirrored(once, chosen, data.template.mirror)
    for name in ("picture", "viewmats", "means", "colors"):
        assert torch.allclose(getattr(twice, name), getattr(batch, name), atol=1e-6)
    assert not torch.equal(once.viewmats[0], batch.viewmats[0])
    assert torch.equal(once.viewmats[1], batch.viewmats[1])


def test_a_sharpener_learns_from_kept_renders(start: Path, corpus: Corpus, tmp_path: Path) -> None:
    model = opened(start)
    store_renders(model, corpus.train, tmp_path / "renders.npz", 0.0, 0)
    with np.load(tmp_path / "renders.npz") as stored:
        assert stored["rendered"].shape == stored["truth"].shape == (8, 3, SIZE, SIZE)
    stage = mini().sharpener
    assert stage is not None
    task = SharpenerTask(model, StoredRenders(tmp_path / "renders.npz"), "toy_sharpener")
    found = run(task, replace(stage.schedule, steps=20, minutes=None), tmp_path / "run", quiet=True)
    assert found.figures["sharpened_psnr"] > found.figures["unsharpened_psnr"] - 0.5
    assert found.loss is not None
    released = load_checkpoint(tmp_path / "run" / "toy_sharpener.safetensors")[0]
    assert released.sharpener is not None


def test_the_four_runs_differ_in_loss_and_augmentation_alone() -> None:
    runs = ablation(12.0, seed=3)
    stages = {name: run.stages[0] for name, run in runs.items()}
    assert set(runs) == {"perceptual_clean", "perceptual_wild", "l1_ssim_clean", "l1_ssim_wild"}
    neutral = {
        replace(s, augmentation="none", perceptual_weight=0.0, l1_weight=0.0, ssim_weight=0.0) for s in stages.values()
    }
    assert len(neutral) == 1
    assert all(stage.pixel_weight == 0 and stage.schedule.minutes == 12.0 for stage in stages.values())
    assert {run.seed for run in runs.values()} == {stage.schedule.seed for stage in stages.values()} == {3}
    counted = ablation(steps=70)
    assert {run.stages[0].schedule.steps for run in counted.values()} == {70}
    assert {run.stages[0].schedule.minutes for run in counted.values()} == {None}
    with pytest.raises(InvalidInputError, match="never end"):
        ablation()


def test_runs_of_the_ablation_share_a_start_and_make_tables(start: Path, corpus: Corpus, tmp_path: Path) -> None:
    runs = {
        name: replace(run, model=CONFIG.model)
        for name, run in ablation(5.0, steps=1).items()
        if name in ("perceptual_wild", "l1_ssim_clean")
    }
    found = run_ablation(runs, start, corpus, tmp_path, heads=2, quiet=True)
    assert set(found) == {"start", *runs}
    for figures in found.values():
        assert set(figures) == set(INPUTS)
        for values in figures.values():
            assert {"input_psnr", "novel_psnr", "extreme_psnr", "iou", "tokens"} == set(values)
    assert found["start"] == measured(load_mini(start), corpus.held_out, 2)
    assert found["start"]["clean"] != found["start"]["wild"]
    text = "".join(table.markdown() for table in tables(found))
    assert text.count("perceptual_wild") == len(INPUTS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert run_ablation(runs, start, corpus, tmp_path, heads=2, quiet=True) == found  # nothing is trained again
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
