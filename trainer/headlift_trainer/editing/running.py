"""The shipped editing weights from generated heads and a reconstruction checkpoint: `headlift train editor`.

    heads --HeadNet--> packed lessons --clip task--> small CLIP --ridge--> traits
    maps --means--> outlines of hair, hats and glasses
    anchor targets, traits --ridge--> complexion: what age, sex and make-up leave on a face
    lessons, looks --class colours, then the edit task--> painter --> mini_edit.safetensors

The reconstruction model is not touched. Every step keeps what it has made; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from headlift import __version__
from headlift.errors import IncompatibleWeightsError, InvalidInputError
from headlift.model.checkpoint import Provenance
from headlift.model.edit.checkpoint import EditWeights, load_edit_weights, save_edit
from headlift.model.edit.map_words import MapWords
from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.edit.style import StyleModel, feature_width
from headlift.model.mini.headnet import HeadNet
from headlift.model.perchead.model import PercHead
from headlift_trainer.editing.clip_task import ClipTask, fit_traits
from headlift_trainer.editing.complexion import fit_complexion, require_targets
from headlift_trainer.editing.data import EditHeads, pack_sets
from headlift_trainer.editing.outlines import fit_outlines
from headlift_trainer.editing.paint_task import PaintTask, fit_class_colors
from headlift_trainer.editing.words import build_vocabulary
from headlift_trainer.loop import run
from headlift_trainer.task import Schedule

FILE = "mini_edit.safetensors"


@dataclass(frozen=True)
class EditPlan:
    """How much of everything.

    Raises:
        InvalidInputError: A value out of range.
    """

    clip_minutes: float = 10.0
    edit_minutes: float = 20.0
    size: str = "mini"  # of the editing model
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clip_minutes <= 0 or self.edit_minutes < 0:
            raise InvalidInputError(f"{self} asks for too little: minutes for both steps.")


@dataclass(frozen=True)
class EditResult:
    """What came of it."""

    file: Path
    figures: Mapping[str, float]
    finished: bool


def train_editor(
    shards: Path,
    out: Path,
    reconstruction: PercHead,
    plan: EditPlan,
    *,
    start: Path | None = None,
    targets: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
    quiet: bool = False,
    stop: Callable[[], bool] | None = None,
) -> EditResult:
    """Train the small CLIP, then the painter; leaves the weights in ``out``.

    Args:
        shards: Generated heads. out: Folder; what is there is gone on with.
        reconstruction: The model that they go with; frozen.
        plan: How much.
        start: Editing weights of the same size to begin with, of any HeadNet; None begins anew.
        targets: Folder of the heads' anchor targets; None leaves age, sex and make-up to the painter.
        say: Called with a line at each step. quiet: No progress bars. stop: Asked after each step.

    Raises:
        InvalidInputError: There are no generated heads of both kinds, or targets of a head are missing.
        IncompatibleWeightsError: The reconstruction model has no HeadNet.
    """
    net = reconstruction.encoder.headnet
    if net is None:
        raise IncompatibleWeightsError(f"The small CLIP reads HeadNet, and {reconstruction.config.name!r} has none.")
    reconstruction.eval().requires_grad_(False)
    say("packing heads")
    train, held_out = pack_sets(shards, net, out / "packed")
    if targets is not None:  # before the hours, not after them
        require_targets(train.seeds, targets)
    begun = None if start is None else begin_with(start, reconstruction, plan)
    style, figures, finished = train_clip(
        train, held_out, net, out / "clip", plan,
        start=None if begun is None else begun.style, say=say, quiet=quiet, stop=stop,
    )  # fmt: skip
    torch.manual_seed(plan.seed)
    model = EditModel(named_edit_config(plan.size), reconstruction)
    if begun is not None:
        model.encoder.load_state_dict(begun.model.encoder.state_dict())
    if not finished:
        return EditResult(out / FILE, figures, False)
    if begun is None and not (out / "edit").exists():
        say("colours of classes")
        figures["class_color_error"] = round(fit_class_colors(model.encoder, style, train, seed=plan.seed), 4)
    task = PaintTask(model.encoder, style, net, train, held_out)
    schedule = Schedule(
        minutes=plan.edit_minutes, learning_rate=1.5e-3, warmup_steps=40, weight_decay=0.02, ema_decay=0.99,
        checkpoint_minutes=3.0, keep=1, seed=plan.seed,
    )  # fmt: skip
    say(f"painter: {plan.edit_minutes:g} min")
    result = run(task, schedule, out / "edit", quiet=quiet, stop=stop)
    figures |= result.figures
    outlines = MapWords()
    fit_outlines(outlines, train)
    complexion = None
    if targets is not None:
        say("complexion")
        complexion, strength = fit_complexion(style, reconstruction.template, train.seeds, train.records, targets)
        figures["complexion_logits"] = round(strength, 4)
    provenance = provenance_of(train, result.steps, figures, plan)
    save_edit(out / FILE, model, style, provenance, outlines=outlines, complexion=complexion)
    return EditResult(out / FILE, figures, result.finished)


def begin_with(start: Path, reconstruction: PercHead, plan: EditPlan) -> EditWeights:
    """Editing weights to train on.

    Raises:
        IncompatibleWeightsError: They are of another size, or hold no small CLIP.
    """
    begun = load_edit_weights(start, reconstruction, other_headnet=True)
    if begun.style is None or begun.model.config != named_edit_config(plan.size):
        raise IncompatibleWeightsError(
            f"{start.name} holds editing weights of another size than {plan.size!r}; begin without it."
        )
    return begun


def train_clip(
    train: EditHeads,
    held_out: EditHeads,
    net: HeadNet,
    out: Path,
    plan: EditPlan,
    *,
    start: StyleModel | None = None,
    say: Callable[[str], object] = lambda line: None,
    quiet: bool = False,
    stop: Callable[[], bool] | None = None,
) -> tuple[StyleModel, dict[str, float], bool]:
    """The small CLIP with its traits, its held-out figures, and whether it came to its end.

    One that begins with ``start``, which is trained on itself, keeps its vocabulary.
    """
    config = named_edit_config(plan.size).style
    assert config is not None
    torch.manual_seed(plan.seed)
    style = start
    if style is None:
        style = StyleModel(config, build_vocabulary(train.records, plan.seed), feature_width(net.config))
    style.train().requires_grad_(True)
    schedule = Schedule(
        minutes=plan.clip_minutes, learning_rate=1e-3, warmup_steps=50, weight_decay=0.1, betas=(0.9, 0.98),
        ema_decay=0.99, checkpoint_minutes=3.0, keep=1, seed=plan.seed,
    )  # fmt: skip
    say(f"small CLIP: {plan.clip_minutes:g} min, {len(style.vocabulary.words)} words")
    result = run(ClipTask(style, train, held_out), schedule, out, quiet=quiet, stop=stop)
    style.eval().requires_grad_(False)
    figures = dict(result.figures) | {"traits_explain": round(fit_traits(style, train), 4)}
    return style, figures, result.finished


def provenance_of(train: EditHeads, steps: int, figures: Mapping[str, float], plan: EditPlan) -> Provenance:
    """Where weights of this plan come from."""
    return Provenance(
        description=f"editor {plan.size}, seed {plan.seed}: small CLIP and painter, decoder frozen",
        license="Apache-2.0",
        data=(f"{len(set(train.seeds))} generated heads in {len(train)} appearances; no photograph",),
        steps=steps,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        metrics=dict(figures),
    )
