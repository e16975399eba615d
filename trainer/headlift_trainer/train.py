"""The training loop of one process: `python -m headlift_trainer.train`.

Data flow: shards and targets in memory -> linear head codes (closed form) -> stages of a recipe -> sharpener ->
a checkpoint with its provenance, and held-out figures beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from headlift import __version__
from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from headlift.model.perchead import PercHead
from headlift.model.splat import rasterize
from headlift.model.template import builtin_template
from headlift_trainer import recipes
from headlift_trainer.closed_form import fit_thumbnail_head
from headlift_trainer.datasets.synthetic import MIRROR, SyntheticHeads
from headlift_trainer.evaluate import evaluate
from headlift_trainer.head_code import LinearCode, fit_linear_code
from headlift_trainer.losses import picture_loss
from headlift_trainer.recipes import Stage, TrainConfig
from headlift_trainer.step import HeadCodes, crop_cameras, reconstruct, training_loss

CHECKPOINT_MINUTES = 5
HELD_OUT = range(40)  # geometry seeds that are never trained on


@dataclass
class Progress:
    """What a run has done so far."""

    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    samples: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def minutes(self) -> float:
        """Wall time since the start."""
        return (time.monotonic() - self.began) / 60


class Ema:
    """An exponential moving average of a module's trained parameters."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.shadow = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Follow the parameters; early on the average is short, so that it forgets the start."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (20 + self._updates))
        torch._foreach_lerp_(list(self.shadow.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with its averaged parameters, within the block."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._copy(self.shadow)
        try:
            yield
        finally:
            self._copy(kept)

    def keep(self) -> None:
        """Leave the averaged parameters in the module."""
        self._copy(self.shadow)

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, p in self._parameters.items():
            p.copy_(values[name])


def fill_head_code(model: PercHead, data: SyntheticHeads) -> HeadCodes:
    """Fit the linear codes to the training heads and their mirror images, and put them into the model."""
    config, mirror = model.config.decoder, data.template.mirror
    flip = MIRROR.to(data.means.dtype)
    geometry = fit_linear_code(torch.cat([data.means, data.means[:, mirror] * flip]), config.geometry_rank)
    color = fit_linear_code(torch.cat([data.colors, data.colors[:, mirror]]), config.color_rank)
    color = LinearCode(color.mean / 255, color.basis / 255)
    model.set_head_code(geometry.mean - model.decoder.anchors, geometry.basis, color.mean, color.basis)
    return HeadCodes(geometry, color)


def input_weights(views: int) -> Tensor:
    """How often each view of the generator's rig is an input: the random portraits mostly, the back never."""
    weights = torch.tensor([1.0, 0.8, 0.8, 0.4, 0.4, 0.0, 0.05, 0.05] + [2.0] * 4 + [0.3, 0.3])
    return weights[:views]


def run_stage(
    model: PercHead,
    codes: HeadCodes,
    data: SyntheticHeads,
    stage: Stage,
    config: TrainConfig,
    log: Path,
    seed: int,
    progress: Progress,
    checkpoint: Callable[[], None],
) -> None:
    """Train through one stage; leaves the averaged parameters in the model.

    Calls `checkpoint`, with the averaged parameters in place, every `CHECKPOINT_MINUTES`.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith("sharpener")]
    optimizer = torch.optim.AdamW(
        parameters, lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay, fused=True
    )
    ema = Ema(model, config.ema_decay)
    weights = input_weights(data.pictures.shape[1])
    start = saved = time.monotonic()
    running: dict[str, float] = {}
    with tqdm(total=100, desc=stage.name, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
        for step in range(stage.steps):
            done = max(step / stage.steps, (time.monotonic() - start) / (60 * stage.minutes))
            if done >= 1:
                break
            rate = min(1, (step + 1) / config.warmup_steps) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * rate
            batch = data.sample(stage.batch_size, generator, views=weights, targets=stage.views)
            loss, parts = training_loss(model, codes, batch, stage, config.camera_noise, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimizer.step()
            ema.update()
            progress.steps += 1
            progress.samples += stage.batch_size
            running = {k: 0.97 * running.get(k, v) + 0.03 * v for k, v in parts.items()}
            if time.monotonic() > saved + 60 * CHECKPOINT_MINUTES:
                saved = time.monotonic()
                with ema.applied():
                    checkpoint()
            if step % 20 == 0:
                rate_per_s = (step + 1) * stage.batch_size / (time.monotonic() - start)
                bar.n = round(100 * done, 1)
                bar.set_postfix(
                    step=step, heads_per_s=round(rate_per_s, 1), **{k: f"{v:.4f}" for k, v in running.items()}
                )
                with log.open("a") as file:
                    file.write(json.dumps({"stage": stage.name, "step": step, "done": round(done, 4)} | running) + "\n")
    ema.keep()


def train_sharpener(model: PercHead, data: SyntheticHeads, minutes: float, seed: int) -> None:
    """Train the sharpener alone on renders of reconstructed heads against the true pictures."""
    if model.sharpener is None or minutes <= 0:
        return
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.sharpener.parameters(), lr=1e-3, weight_decay=0.0)
    ema = Ema(model.sharpener, 0.99)
    weights = input_weights(data.pictures.shape[1])
    start = time.monotonic()
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * done))
        batch = data.sample(2, generator, views=weights, targets=3)
        assert batch.target is not None
        assert batch.target_viewmats is not None
        heads = reconstruct(model, batch.picture, crop_cameras(batch.viewmats, data.size))
        loss = torch.zeros(())
        for i, head in enumerate(heads):
            with torch.no_grad():
                views = rasterize(head, crop_cameras(batch.target_viewmats[i], data.size))
            black = torch.zeros(len(views.rgb), 3, 1, 1)
            target = torch.cat([batch.target[i, :, :3], views.alpha], 1)
            loss = loss + picture_loss(model.sharpener(views.rgb), views.alpha, target, black)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        ema.update()
    ema.keep()


def train(
    config: TrainConfig, shards: Path, targets: Path, out: Path, *, count: int, start: Path | None = None
) -> PercHead:
    """A whole run: leaves `OUT/NAME.safetensors`, `OUT/NAME.json` (figures) and `OUT/log.jsonl`.

    Args:
        config: What to train and how.
        shards: Generated heads. targets: Their anchor targets. out: Where the results go.
        count: Geometry seeds to look for, the held-out ones included.
        start: A checkpoint of the same config to start from, closed forms included.
    """
    out.mkdir(parents=True, exist_ok=True)
    template = builtin_template()
    data = SyntheticHeads(shards, targets, template, range(len(HELD_OUT), count))
    held_out = SyntheticHeads(shards, targets, template, HELD_OUT)
    torch.manual_seed(config.seed)
    model = PercHead(config.model, template)
    codes = fill_head_code(model, data)
    if start is not None:
        model.load_state_dict(load_checkpoint(start, expect=config.model)[0].state_dict())
    progress, path = Progress(), out / f"{config.name}.safetensors"

    def checkpoint() -> None:
        save(model, config, path, data, progress)

    if model.encoder.thumbnail_head is not None and start is None:
        weights = input_weights(data.pictures.shape[1])
        explained = fit_thumbnail_head(model, codes, data, weights, samples=config.thumbnails, seed=config.seed)
        progress.metrics = evaluate(model, held_out, data)
        print(json.dumps({"after": "thumbnails", "explained": round(explained, 3)} | progress.metrics), flush=True)
        checkpoint()
    if model.encoder.thumbnail_head is not None:
        # Gradient steps on thousands of inputs at a network's rate undo the closed form within a few steps (measured:
        # the camera's error quadrupled). The global head waits for runs with more samples.
        model.encoder.thumbnail_head.requires_grad_(False)
        if model.encoder.head is not None:
            model.encoder.head.requires_grad_(False)
    for index, stage in enumerate(config.stages):
        run_stage(model, codes, data, stage, config, out / "log.jsonl", config.seed + index, progress, checkpoint)
        progress.metrics = evaluate(model, held_out, data)
        save(model, config, path, data, progress)
        print(json.dumps({"after": stage.name} | progress.metrics), flush=True)
    train_sharpener(model, data, config.sharpener_minutes, config.seed + 100)
    save(model, config, path, data, progress)
    (out / f"{config.name}.json").write_text(json.dumps(progress.metrics, indent=1))
    return model


def save(model: PercHead, config: TrainConfig, path: Path, data: SyntheticHeads, progress: Progress) -> None:
    """Write the checkpoint in half precision, with where it comes from."""
    provenance = Provenance(
        description=f"recipe {config.name}, seed {config.seed}, {progress.minutes:.0f} min on CPU",
        license="Apache-2.0",
        data=(f"{len(data.seeds)} generated heads in {len(data)} appearances, from MakeHuman assets (CC0 1.0)",),
        steps=progress.steps,
        samples=progress.samples,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        metrics=progress.metrics,
    )
    save_checkpoint(path, model, provenance, dtype=torch.float16)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="mini", choices=["mini"])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--targets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True, help="geometry seeds to look for, held-out ones included")
    parser.add_argument("--hours", type=float, default=1.5)
    parser.add_argument("--start", type=Path, help="checkpoint of the same config to start from")
    args = parser.parse_args(argv)
    config = getattr(recipes, args.recipe)(args.hours)
    train(config, args.shards, args.targets, args.out, count=args.count, start=args.start)


if __name__ == "__main__":
    main()
