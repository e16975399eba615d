"""The loop learns, keeps closed forms, and says where a checkpoint comes from. Tiny data, tiny network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint
from headlift.model.config import named_config
from headlift.model.perchead import PercHead
from headlift.model.template import Template
from headlift_trainer.closed_form import fit_thumbnail_head
from headlift_trainer.datasets.synthetic import SyntheticHeads
from headlift_trainer.recipes import Stage, TrainConfig
from headlift_trainer.step import training_loss
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import target_path
from headlift_trainer.train import Progress, fill_head_code, run_stage, save

SIZE, VIEWS = 32, 14


@pytest.fixture
def template(tiny_checkpoint: Path) -> Template:
    return load_checkpoint(tiny_checkpoint)[0].template


@pytest.fixture
def data(template: Template, tmp_path: Path) -> SyntheticHeads:
    """Eight eggs of one colour each, in files as the generator and `prepare` write them."""
    rng = np.random.default_rng(0)
    cameras = orbit_cameras(list(np.linspace(-60, 60, VIEWS)), width=SIZE, height=SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    disc = (np.hypot(x / 8, y / 11) < 1).astype(np.uint8)
    for seed in range(8):
        color = rng.integers(60, 250, 3).astype(np.uint8)
        rgba = np.concatenate([disc[..., None] * color, disc[..., None] * 255], -1).astype(np.uint8)
        np.savez(
            path_of(tmp_path, seed, 0),
            rgba=np.repeat(rgba[None], VIEWS, 0),
            viewmats=cameras.viewmats.numpy(),
            Ks=cameras.Ks.numpy(),
        )
        count = len(template.anchors)
        means = template.anchors.numpy() * rng.normal(1, 0.05, 3)
        colors = np.broadcast_to(color, (1, count, 3))
        np.savez(
            target_path(tmp_path, seed),
            means=means.astype(np.float16),
            colors=colors,
            seen=np.full((1, count), 255, np.uint8),
            template=template.sha256,
        )
    return SyntheticHeads(tmp_path, tmp_path, template, range(8))


def config(stage: Stage) -> TrainConfig:
    return TrainConfig("test", named_config("tiny"), (stage,), warmup_steps=2)


def test_targets_of_another_template_are_refused(data: SyntheticHeads, template: Template, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(InvalidInputError, match="another template"):
        SyntheticHeads(tmp_path, tmp_path, replace(template, sha256="f" * 64), range(8))


def test_a_mirrored_head_mirrored_again_is_the_head(data: SyntheticHeads) -> None:
    from headlift_trainer.datasets.synthetic import mirrored

    batch = data.batch(torch.tensor([1, 2]), torch.tensor([0, 3]))
    chosen = torch.tensor([True, False])
    once = mirrored(batch, chosen, data.template.mirror)
    twice = mirrored(once, chosen, data.template.mirror)
    for name in ("picture", "viewmats", "means", "colors"):
        assert torch.allclose(getattr(twice, name), getattr(batch, name), atol=1e-6)
    assert not torch.equal(once.viewmats[0], batch.viewmats[0])
    assert torch.equal(once.viewmats[1], batch.viewmats[1])


def test_a_stage_lowers_the_loss_and_leaves_the_closed_forms_alone(data: SyntheticHeads, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PercHead(named_config("tiny"), data.template)
    codes = fill_head_code(model, data)
    explained = fit_thumbnail_head(model, codes, data, torch.ones(VIEWS), samples=256, seed=0)
    assert explained > 0.2
    assert model.encoder.thumbnail_head is not None
    model.encoder.thumbnail_head.requires_grad_(False)
    kept = model.encoder.thumbnail_head.out.weight.clone()
    stage = Stage("pictures", 12, 5.0, batch_size=2, learning_rate=2e-3, patches=None, views=1)

    def loss() -> float:
        generator = torch.Generator().manual_seed(9)
        batch = data.sample(8, generator, views=torch.ones(VIEWS), targets=1)
        with torch.no_grad():
            return float(training_loss(model, codes, batch, stage, 0.0, generator)[0])

    before, progress = loss(), Progress()
    run_stage(model, codes, data, stage, config(stage), tmp_path / "log.jsonl", 0, progress, lambda: None)
    assert loss() < before
    assert torch.equal(model.encoder.thumbnail_head.out.weight, kept)
    assert (progress.steps, progress.samples) == (12, 24)
    assert '"pictures"' in (tmp_path / "log.jsonl").read_text()
    save(model, config(stage), tmp_path / "out.safetensors", data, progress)
    provenance = load_checkpoint(tmp_path / "out.safetensors", expect=named_config("tiny"))[1]
    assert provenance.samples == 24
    assert "8 generated heads" in provenance.data[0]
