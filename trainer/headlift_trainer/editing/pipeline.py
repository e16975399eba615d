"""The shipped editing weights from generated heads and a reconstruction checkpoint: `headlift train editor`.

    heads --HeadNet--> packed pictures and maps --clip task--> small CLIP --ridge--> traits
    maps --means--> outlines of hair, hats and glasses
    anchor targets, traits --ridge--> complexion: what age, sex and make-up leave on a face
    pictures, maps, styles --class colours, then the edit task--> painter --> mini_edit.safetensors

The reconstruction model is not touched. Every step keeps what it has made; the same command goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from headlift.errors import IncompatibleWeightsError
from headlift.model.checkpoint import Provenance
from headlift.model.edit.checkpoint import EditWeights, load_edit_weights, save_edit
from headlift.model.edit.map_words import MapWords
from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.edit.style import StyleModel, feature_width
from headlift.model.mini.headnet import HeadNet
from headlift.model.sizes import HeadModel, require_headnet
from headlift_trainer.device import torch_device
from headlift_trainer.editing.complexion import fit_complexion, require_targets
from headlift_trainer.editing.data import EditHeads, pack_sets
from headlift_trainer.editing.outlines import fit_outlines
from headlift_trainer.editing.words import build_vocabulary
from headlift_trainer.loop import run
from headlift_trainer.provenance import TrainingCost, provenance
from headlift_trainer.recipes.editor import EditorConfig
from headlift_trainer.tasks.clip import ClipTask, fit_traits
from headlift_trainer.tasks.painter import PainterTask, fit_class_colors

FILE = "mini_edit.safetensors"


@dataclass(frozen=True)
class EditResult:
    """What came of it."""

    file: Path
    figures: Mapping[str, float]
    finished: bool


def train_editor(
    shards: Path,
    out: Path,
    reconstruction: HeadModel,
    config: EditorConfig,
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
        config: The run.
        start: Editing weights of the same size to begin with, of any HeadNet; None begins anew.
        targets: Folder of the heads' anchor targets; None leaves age, sex and make-up to the painter.
        say: Called with a line at each step. quiet: No progress bars. stop: Asked after each step.

    Raises:
        InvalidInputError: There are no generated heads of both kinds, or targets of a head are missing.
        IncompatibleWeightsError: The reconstruction model has no HeadNet.
    """
    net = require_headnet(reconstruction)
    reconstruction.eval().requires_grad_(False)
    say("packing heads")
    train, held_out = pack_sets(shards, net, out / "packed")
    if targets is not None:  # before the hours, not after them
        require_targets(train.seeds, targets)
    begun = None if start is None else begin_with(start, reconstruction, config)
    style, figures, finished = train_clip(
        train, held_out, net, out / "clip", config,
        start=None if begun is None else begun.style, say=say, quiet=quiet, stop=stop,
    )  # fmt: skip
    torch.manual_seed(config.seed)
    model = EditModel(named_edit_config(config.size), reconstruction)
    if begun is not None:
        model.encoder.load_state_dict(begun.model.encoder.state_dict())
    if not finished:
        return EditResult(out / FILE, figures, False)
    if begun is None and not (out / "edit").exists():
        say("colours of classes")
        figures["class_color_error"] = round(fit_class_colors(model.encoder, style, train, seed=config.seed), 4)
    model.to(torch_device(config.device))
    task = PainterTask(model.encoder, style, net, train, held_out)
    say(f"painter: {config.painter.minutes:g} min")
    result = run(task, config.painter, out / "edit", quiet=quiet, stop=stop)
    model.to("cpu")
    figures |= result.figures
    outlines = MapWords()
    fit_outlines(outlines, train)
    complexion = None
    if targets is not None:
        say("complexion")
        complexion, strength = fit_complexion(style, reconstruction.template, train.seeds, train.records, targets)
        figures["complexion_logits"] = round(strength, 4)
    where_from = editor_provenance(train, result.steps, figures, config)
    save_edit(out / FILE, model, style, where_from, outlines=outlines, complexion=complexion)
    return EditResult(out / FILE, figures, result.finished)


def begin_with(start: Path, reconstruction: HeadModel, config: EditorConfig) -> EditWeights:
    """Editing weights to train on.

    Raises:
        IncompatibleWeightsError: They are of another size, or hold no small CLIP.
    """
    begun = load_edit_weights(start, reconstruction, other_headnet=True)
    if begun.style is None or begun.model.config != named_edit_config(config.size):
        raise IncompatibleWeightsError(
            f"{start.name} holds editing weights of another size than {config.size!r}; begin without it."
        )
    return begun


def train_clip(
    train: EditHeads,
    held_out: EditHeads,
    net: HeadNet,
    out: Path,
    config: EditorConfig,
    *,
    start: StyleModel | None = None,
    say: Callable[[str], object] = lambda line: None,
    quiet: bool = False,
    stop: Callable[[], bool] | None = None,
) -> tuple[StyleModel, dict[str, float], bool]:
    """The small CLIP with its traits, its held-out figures, and whether it came to its end.

    One that begins with ``start``, which is trained on itself, keeps its vocabulary.
    """
    style_config = named_edit_config(config.size).style
    assert style_config is not None
    torch.manual_seed(config.seed)
    style = start
    if style is None:
        style = StyleModel(style_config, build_vocabulary(train.records, config.seed), feature_width(net.config))
    style.train().requires_grad_(True)
    say(f"small CLIP: {config.clip.minutes:g} min, {len(style.vocabulary.words)} words")
    result = run(ClipTask(style, train, held_out), config.clip, out, quiet=quiet, stop=stop)
    style.eval().requires_grad_(False)
    figures = dict(result.figures) | {"traits_explain": round(fit_traits(style, train), 4)}
    return style, figures, result.finished


def editor_provenance(train: EditHeads, steps: int, figures: Mapping[str, float], config: EditorConfig) -> Provenance:
    """Where weights of this run come from."""
    heads = f"{len(set(train.seeds))} generated heads in {len(train)} appearances; no photograph"
    description = f"editor {config.size}, seed {config.seed}: small CLIP and painter, decoder frozen"
    return provenance(description, (heads,), figures, cost=TrainingCost(steps=steps), license="Apache-2.0")
