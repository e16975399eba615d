"""The shipped weights' training as tasks of the loop (`loop.run`): exact resumption, averages, curves.

    closed_forms() --> StageTask for each stage of a `TrainConfig` --> draw_renders() --> SharpenerTask

Legend: V views, S picture side, R renders.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headlift import __version__
from headlift.model.checkpoint import Provenance, save_checkpoint
from headlift.model.mini.headnet import load_headnet
from headlift.model.perchead.model import PercHead
from headlift.model.splat import rasterize
from headlift.model.template import Template
from headlift_trainer.closed_form import face_weight, fill_head_code, fit_landmark_errors, fit_thumbnail_head
from headlift_trainer.datasets.synthetic import SyntheticHeads
from headlift_trainer.evaluation.in_memory import evaluate
from headlift_trainer.head_code import LinearCode
from headlift_trainer.losses import sharpness_loss
from headlift_trainer.metrics import psnr
from headlift_trainer.recipes import Stage, TrainConfig
from headlift_trainer.step import HeadCodes, crop_cameras, reconstruct, training_loss
from headlift_trainer.synthetic.source.seeds import source_of
from headlift_trainer.task import Schedule, Share

SHARPENED = 6  # pictures in a batch of the sharpener
_RENDERED_VIEWS = 4  # of each head
_RENDERED_HEADS = 600  # at most; 1 GB at 256 px
_SHOWN = 4
_LANDMARK_SAMPLES = 4096  # of HeadNet's errors: a dozen for each of their numbers
_ORIGINS = {
    "makehuman": "MakeHuman's assets (CC0 1.0)",
    "ict": "ICT-FaceKit (MIT)",
    "procedural": "our own code",
}


@dataclass(frozen=True)
class Corpus:
    """What a run learns from, and what its figures are made of."""

    train: SyntheticHeads
    held_out: SyntheticHeads

    @classmethod
    def of(cls, shards: Path, targets: Path, template: Template, train: list[int], held_out: list[int]) -> Corpus:
        """Read both into memory."""
        return cls(*(SyntheticHeads(shards, targets, template, seeds) for seeds in (train, held_out)))


def closed_forms(config: TrainConfig, corpus: Corpus, headnet: Path) -> tuple[PercHead, dict[str, float]]:
    """A fresh model with everything that needs no gradients, and its held-out figures."""
    torch.manual_seed(config.seed)
    model = PercHead(config.model, corpus.train.template)
    codes = fill_head_code(model, corpus.train)
    if model.encoder.headnet is not None:
        model.encoder.headnet.load_state_dict(load_headnet(headnet).state_dict())
    figures: dict[str, float] = {}
    if model.encoder.landmark_errors is not None:
        fit_landmark_errors(model, corpus.train, samples=min(config.thumbnails, _LANDMARK_SAMPLES))
    if model.encoder.thumbnail_head is not None:
        weights = input_weights(corpus.train.pictures.shape[1])
        explained = fit_thumbnail_head(model, codes, corpus.train, weights, samples=config.thumbnails, seed=config.seed)
        figures["explained"] = round(explained, 3)
    return model, figures | evaluate(model, corpus.held_out, corpus.train)


def codes_of(model: PercHead) -> HeadCodes:
    """The linear codes that a model's head code was filled with."""
    code = model.decoder.head_code
    assert code is not None
    geometry = LinearCode(
        model.decoder.anchors + code.mean_offsets, code.geometry_basis, face_weight(model.template.regions)
    )
    return HeadCodes(geometry, LinearCode(code.mean_colors, code.color_basis))


def freeze_closed_forms(model: PercHead) -> None:
    """Gradient steps on thousands of inputs undo the closed forms within a few steps; what they fill stays as it is."""
    for part in (model.encoder.headnet, model.encoder.thumbnail_head):
        if part is not None:
            part.requires_grad_(False)
    if model.encoder.thumbnail_head is not None and model.encoder.head is not None:
        model.encoder.head.requires_grad_(False)


def input_weights(views: int) -> Tensor:
    """How often each view of the generator's rig is an input: the random portraits mostly, the back never."""
    weights = torch.tensor([1.0, 0.8, 0.8, 0.4, 0.4, 0.0, 0.05, 0.05] + [2.0] * 4 + [0.3, 0.3])
    return weights[:views]


class StageTask:
    """One stage of a `TrainConfig`; see `headlift_trainer.task.Task`. The sharpener is left alone.

    Args:
        model: With its closed forms filled; they are frozen here.
        corpus: Training and held-out heads.
        stage: What is trained on what.
        config: The run that the stage is of.
    """

    def __init__(self, model: PercHead, corpus: Corpus, stage: Stage, config: TrainConfig) -> None:
        freeze_closed_forms(model)
        self.name = f"{config.name}_{stage.name}"
        self._model, self._corpus, self._stage, self._config = model, corpus, stage, config
        self._codes = codes_of(model)
        self._views = input_weights(corpus.train.pictures.shape[1])

    @property
    def schedule(self) -> Schedule:
        """How long and how hard."""
        stage, config = self._stage, self._config
        return Schedule(
            steps=stage.steps, minutes=stage.minutes, learning_rate=stage.learning_rate,
            warmup_steps=config.warmup_steps, clip_norm=config.clip_norm, weight_decay=config.weight_decay,
            ema_decay=config.ema_decay, ema_power=config.ema_power, checkpoint_minutes=5.0, keep=1, seed=config.seed,
        )  # fmt: skip

    @property
    def module(self) -> nn.Module:
        """The whole model."""
        return self._model

    def parameters(self) -> list[nn.Parameter]:
        """All that is not frozen, the sharpener's apart."""
        named = self._model.named_parameters()
        return [p for n, p in named if p.requires_grad and not n.startswith("sharpener")]

    def loss(self, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, float]]:
        """Of a fresh batch."""
        stage = self._stage
        batch = self._corpus.train.sample(
            stage.batch_size, generator, views=self._views, targets=stage.views, augmentation=stage.augmentation
        )
        return training_loss(self._model, self._codes, batch, stage, self._config.camera_noise, generator)

    def figures(self) -> dict[str, float]:
        """PSNR of held-out heads beside both baselines."""
        return evaluate(self._model, self._corpus.held_out, self._corpus.train)

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Held-out heads, one a row: the rig's first views, ours above the truth."""
        data, rows = self._corpus.held_out, []
        for row in torch.linspace(0, len(data) - 1, min(_SHOWN, len(data))).long():
            truth = data.pictures[row, :6].permute(0, 3, 1, 2).float() / 255
            head = reconstruct(self._model, truth[:1])[0]
            views = rasterize(head, crop_cameras(data.viewmats[row, :6], data.size))
            rows.append(torch.cat([torch.cat([*views.rgb], -1), torch.cat([*truth[:, :3]], -1)], -2))
        return {"held_out": torch.cat(rows, -2).clamp(0, 1)}


class SharpenerTask:
    """The sharpener alone, on renders that `draw_renders` drew.

    Args:
        model: Has a sharpener.
        rendered: [R, 3, S, S] uint8, what the model drew. truth: Likewise, the true pictures.
        minutes: Of wall time. seed: Of the run.
    """

    name = "mini_sharpener"

    def __init__(
        self, model: PercHead, rendered: NDArray[np.uint8], truth: NDArray[np.uint8], minutes: float, seed: int
    ) -> None:
        assert model.sharpener is not None
        self._sharpener = model.sharpener
        held = max(1, len(rendered) // 20)
        self._held = torch.from_numpy(rendered[:held].copy()), torch.from_numpy(truth[:held].copy())
        self._data = torch.from_numpy(rendered[held:]), torch.from_numpy(truth[held:])
        self.schedule = Schedule(
            minutes=minutes, learning_rate=2e-3, final_share=0.0, warmup_steps=0, clip_norm=None, weight_decay=0.0,
            betas=(0.9, 0.999), ema_decay=0.99, checkpoint_minutes=2.0, keep=1, seed=seed,
        )  # fmt: skip

    @property
    def module(self) -> nn.Module:
        """The sharpener; the rest does not change."""
        return self._sharpener

    def parameters(self) -> list[nn.Parameter]:
        """All of it."""
        return list(self._sharpener.parameters())

    def loss(self, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, float]]:
        """Of a fresh batch."""
        rows = torch.randint(len(self._data[0]), (SHARPENED,), generator=generator)
        rendered, truth = (part[rows].float() / 255 for part in self._data)
        loss = sharpness_loss(self._sharpener(rendered), rendered, truth)
        return loss, {"sharpness": float(loss.detach())}

    def figures(self) -> dict[str, float]:
        """PSNR (dB) with and without, on renders that were held back."""
        rendered, truth = (part.float() / 255 for part in self._held)
        sharp = torch.cat([self._sharpener(part) for part in torch.split(rendered, SHARPENED)]).clamp(0, 1)
        return {
            "sharpened_psnr": round(float(psnr(sharp, truth).mean()), 2),
            "unsharpened_psnr": round(float(psnr(rendered, truth).mean()), 2),
        }

    def pictures(self) -> dict[str, Tensor]:
        """Truth, render and sharpened render."""
        rendered, truth = (part[:1].float() / 255 for part in self._held)
        return {"sharpened": torch.cat([truth, rendered, self._sharpener(rendered)], -1)[0].clamp(0, 1)}


@torch.no_grad()
def draw_renders(model: PercHead, data: SyntheticHeads, path: Path, minutes: float, seed: int) -> None:
    """Draw reconstructed training heads and keep them with the truth in `path` (.npz), whole or not at all.

    Ends after `minutes`, with at least two heads, or with more than a sharpener needs.
    """
    began = time.monotonic()
    generator = torch.Generator().manual_seed(seed)
    weights = input_weights(data.pictures.shape[1])
    rendered: list[NDArray[np.uint8]] = []
    truth: list[NDArray[np.uint8]] = []
    while len(rendered) < 2 or (len(rendered) < _RENDERED_HEADS and time.monotonic() - began < 60 * minutes):
        batch = data.sample(1, generator, views=weights, targets=_RENDERED_VIEWS)
        assert batch.target is not None
        assert batch.target_viewmats is not None
        head = reconstruct(model, batch.picture)[0]
        views = rasterize(head, crop_cameras(batch.target_viewmats[0], data.size))
        rendered.append((255 * views.rgb.clamp(0, 1)).round().byte().numpy())
        truth.append((255 * batch.target[0, :, :3]).round().byte().numpy())
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, rendered=np.concatenate(rendered), truth=np.concatenate(truth))
    temporary.replace(path)


@dataclass(frozen=True)
class Spent:
    """What a model has taken so far."""

    minutes: float = 0.0
    steps: int = 0
    samples: int = 0


def keep(
    model: PercHead, config: TrainConfig, path: Path, data: SyntheticHeads, spent: Spent,
    metrics: Mapping[str, float], *, dtype: torch.dtype = torch.float32,
) -> None:  # fmt: skip
    """Write a checkpoint with where it comes from."""
    origins = list(dict.fromkeys(_ORIGINS[source_of(seed)] for seed in data.seeds))
    provenance = Provenance(
        description=f"recipe {config.name}, seed {config.seed}, {spent.minutes:.0f} min on CPU",
        license="Apache-2.0",
        data=(f"{len(data.seeds)} generated heads in {len(data)} appearances, from {', '.join(origins)}",),
        steps=spent.steps,
        samples=spent.samples,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        metrics=dict(metrics),
    )
    save_checkpoint(path, model, provenance, dtype=dtype)
