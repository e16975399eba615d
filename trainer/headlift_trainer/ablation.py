"""Runs the ablation in small from one shared start and makes its table.

Every run is measured on held-out heads twice: with their pictures as they are, and with pictures as from the wild, the
same ones for every run. Tokens are those of the frozen HeadNet that all runs share.

Legend: V rig views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from headlift.model.mini.model import MiniHead
from headlift.model.splat import rasterize
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.synthetic import Corpus, SyntheticHeads, augmented
from headlift_trainer.device import to_device, torch_device
from headlift_trainer.evaluation.synthetic import FRONT, GROUPS
from headlift_trainer.evaluation.tables import Column, Row, Table
from headlift_trainer.loop import run
from headlift_trainer.losses import token_loss
from headlift_trainer.metrics import mask_iou, psnr
from headlift_trainer.portraits import reconstruct
from headlift_trainer.provenance import TrainingCost
from headlift_trainer.recipes.mini import Augmentation, MiniRecipe
from headlift_trainer.run_log import RunLog
from headlift_trainer.synthetic.render.views import RIG_DEG
from headlift_trainer.tasks.mini import MiniTask, load_mini, save_checkpoint

Figures = dict[str, dict[str, float]]  # kind of input ("clean", "wild"), figure
INPUTS: Mapping[str, Augmentation] = {"clean": "none", "wild": "wild"}
_TOKEN_SIDE = 192  # pixels at which HeadNet compares views
_TITLES = {"clean": "Held-out heads as they are", "wild": "The same heads, pictures as from the wild"}
_COLUMNS = (
    Column("psnr", "input"),
    Column("psnr", "novel"),
    Column("psnr", "extreme"),
    Column("iou"),
    Column("tokens", "", "HeadNet distance ↓"),
)


def tables(results: Mapping[str, Figures]) -> list[Table]:
    """One table for each kind of input."""

    def cells(figures: Mapping[str, float]) -> tuple[float | None, ...]:
        return tuple(figures.get(f"{c.group}_{c.metric}" if c.group else c.metric) for c in _COLUMNS)

    return [
        Table(title, _COLUMNS, tuple(Row(name, cells(figures[kind])) for name, figures in results.items()), first="Run")
        for kind, title in _TITLES.items()
    ]


def run_ablation(
    runs: Mapping[str, MiniRecipe],
    start: Path,
    corpus: Corpus,
    out: Path,
    *,
    heads: int = 24,
    say: Callable[[str], object] = lambda line: None,
    quiet: bool = False,
) -> dict[str, Figures]:
    """Train and measure every run that is not done yet; leaves a checkpoint of each in its folder, and `steps.json`.

    Args:
        runs: By name, runs of one stage.
        start: Checkpoint with the closed forms that all start from.
        corpus: Training and held-out heads.
        out: Folder.
        heads: Held-out heads that are measured, at most.
        say: Called with a line at each run.
        quiet: No progress bars.

    Returns:
        Figures of each run, and of the start.
    """
    plan = {
        "heads": len(corpus.train.seeds),
        "measured": heads,
        "minutes": {name: config.stages[0].schedule.minutes for name, config in runs.items()},
        "steps": {name: config.stages[0].schedule.steps for name, config in runs.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    log = RunLog(out / "steps.json", plan)
    if not log.is_done("start"):
        with log.attempt("start") as step:
            step.figures |= measured(load_mini(start), corpus.held_out, heads)
    for name, config in runs.items():
        if log.is_done(name):
            continue
        stage = config.stages[0]
        say(f"{name}: {stage.schedule.steps or 'any number of'} steps, {stage.schedule.minutes or 'any number of'} min")
        with log.attempt(name) as step:
            model = load_mini(start).train().to(torch_device(config.device))
            result = run(MiniTask(model, corpus, stage, name), stage.schedule, out / name, quiet=quiet)
            model.eval()
            cost = TrainingCost(result.minutes, result.steps, result.steps * stage.batch_size)
            path = out / f"{name}.safetensors"
            save_checkpoint(model, config, path, corpus.train, cost, {}, dtype=torch.float16)
            step.figures |= measured(model, corpus.held_out, heads)
    return {step.name: step.figures for step in log}


@torch.no_grad()
def measured(model: MiniHead, data: SyntheticHeads, heads: int) -> Figures:
    """Figures of held-out heads from their front picture, by kind of input.

    Returns:
        For each of `INPUTS`: PSNR (dB) by group of views, mask IoU, and the token distance, of all rig views.
    """
    judge = model.encoder.headnet
    every = torch.arange(len(RIG_DEG))[None]
    side = min(_TOKEN_SIDE, data.size // 16 * 16)
    sums: dict[str, dict[str, list[float]]] = {kind: {} for kind in INPUTS}
    for row in range(0, len(data), max(1, len(data) // heads)):
        clean = data.batch(torch.tensor([row]), torch.tensor([FRONT]), every)
        for kind, augmentation in INPUTS.items():
            batch = to_device(augmented(clean, torch.Generator().manual_seed(row), augmentation), model.device)
            assert batch.target is not None
            assert batch.target_viewmats is not None
            truth = batch.target[0]
            head = reconstruct(model, batch.picture[0])
            views = rasterize(head, crop_cameras(batch.target_viewmats[0], data.size))
            scores = psnr(views.rgb, truth[:, :3]).tolist()
            values = sums[kind]
            for group, score in zip(GROUPS[FRONT], scores, strict=True):
                values.setdefault(f"{group}_psnr", []).append(score)
            values.setdefault("iou", []).append(float(mask_iou(views.alpha, truth[:, 3:]).mean()))
            values.setdefault("tokens", []).append(float(token_loss(judge, views.rgb, truth[:, :3], side)))
    return {
        kind: {name: round(sum(scores) / len(scores), 4) for name, scores in values.items()}
        for kind, values in sums.items()
    }
