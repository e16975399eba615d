"""eval edit: do edits obey, on generated heads that nothing was trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from headlift.commands.session import Subparsers, add_command, emit, progress_bar, say
from headlift_trainer.commands.eval_options import add_backbone, load_model, shipped_weights

_PROMPTS = (
    "long red hair",
    "short blond hair",
    "dark skin",
    "bald",
    "a hat",
    "glasses",
    "a beard",
    "an old person",
    "make-up",
    "curly hair",
)


def register_edit(kinds: Subparsers) -> None:
    """Add the command."""
    parser = add_command(kinds, "edit", "whether edits obey map and words, and nothing else moves", edit)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="generated heads, held-out ones too")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="editing weights (default: the shipped ones)")
    parser.add_argument(
        "--reconstruction", type=Path, metavar="FILE", help="checkpoint that they go with (default: the shipped mini)"
    )
    add_backbone(parser)
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep packed heads here (default: beside the shards)")
    parser.add_argument("--limit", type=int, default=16, metavar="N", help="heads that are edited (default: 16)")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write two contact sheets: FILE and FILE-styles")


def edit(args: argparse.Namespace) -> int:
    """``headlift eval edit``."""
    import numpy as np
    import torch
    from PIL import Image

    from headlift.errors import IncompatibleWeightsError, InvalidInputError
    from headlift.model.edit.checkpoint import load_edit_weights
    from headlift.model.sizes import require_headnet
    from headlift.stages.edit import Edit, SmallClip
    from headlift_trainer.editing.data import pack_sets
    from headlift_trainer.editing.figures import EditEvaluation, style_sheet, subject_of, text_sheet
    from headlift_trainer.tasks.clip import retrieval, zero_shot

    if args.limit < 1:
        raise InvalidInputError(f"--limit is {args.limit}; it must be at least 1 head.", field="limit")
    weights = load_edit_weights(
        args.weights or shipped_weights().with_name("mini_edit.safetensors"),
        load_model(args.reconstruction, args.backbone)[1],
    )
    net = require_headnet(weights.model.reconstruction)
    if weights.style is None:
        raise IncompatibleWeightsError("eval edit measures models with the small CLIP; this one has none.")
    train, held_out = pack_sets(args.shards, net, args.cache or args.shards / "packed_edit")
    stage = Edit(
        weights.model, SmallClip(weights.style, weights.model), "evaluation", weights.outlines, weights.complexion
    )
    run = EditEvaluation(stage, weights.model, weights.style, train)
    rows = np.unique(np.linspace(0, len(held_out) - 1, min(args.limit, len(held_out))).round().astype(int)).tolist()
    subjects = []
    with progress_bar(args, len(rows), "held-out heads", "head") as bar, torch.no_grad():
        for row in rows:
            subject = subject_of(stage, weights.model, weights.style, held_out, row)
            run(subject)
            subjects.append(subject)
            bar.update()
        metrics = {"heads": len(rows)} | run.found.table()
        clip = retrieval(weights.style, held_out) | zero_shot(weights.style, held_out)
        if args.sheet:
            chosen = subjects[:: max(1, len(subjects) // 5)][:5]
            styles = args.sheet.with_name(f"{args.sheet.stem}-styles{args.sheet.suffix}")
            for path, sheet in (
                (args.sheet, text_sheet(run, chosen, _PROMPTS)),
                (styles, style_sheet(run, chosen)),
            ):
                pixels = (255 * sheet.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(path)
                say(args, f"wrote {path.name}")
    lines = [f"{name:40} {value:g}" for name, value in (clip | metrics).items()]
    emit(args, {"clip": clip, "edits": metrics}, "\n".join(lines))
    return 0
