"""train editor, train clip: the shipped editing weights from generated heads."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from headlift.commands.session import Subparsers, add_command, emit, say


def register_editor(kinds: Subparsers) -> None:
    """Add the commands."""
    editor = add_command(kinds, "editor", "mini's editing weights: a small CLIP, then the painter", train_editor)
    clip = add_command(kinds, "clip", "only the small CLIP of the editing weights", train_clip)
    for parser in (editor, clip):
        parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="generated heads")
        parser.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="folder for everything; also to go on"
        )
        parser.add_argument(
            "--reconstruction",
            type=Path,
            metavar="FILE",
            help="checkpoint that they go with (default: the shipped mini)",
        )
        parser.add_argument("--clip-minutes", type=float, default=10.0, metavar="M", help="(default: 10)")
        parser.add_argument("--size", default="mini", choices=["mini", "tiny"], help="of the model (default: mini)")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    editor.add_argument(
        "--start", type=Path, metavar="FILE", help="editing weights to begin with, of this or another HeadNet"
    )
    editor.add_argument(
        "--targets", type=Path, metavar="DIR", help="the heads' anchor targets, for what age and make-up leave on faces"
    )
    editor.add_argument("--minutes", type=float, default=20.0, metavar="M", help="for the painter (default: 20)")


def train_editor(args: argparse.Namespace) -> int:
    """``headlift train editor``."""
    from headlift_trainer.commands.eval_options import load_model
    from headlift_trainer.editing import pipeline
    from headlift_trainer.recipes.editor import editor

    config = editor(args.size, clip_minutes=args.clip_minutes, minutes=args.minutes, seed=args.seed, device=args.device)
    model = load_model(args.reconstruction)[1]
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        result = pipeline.train_editor(
            args.shards, args.out, model, config, start=args.start, targets=args.targets,
            say=lambda line: say(args, line), quiet=args.json, stop=lambda: bool(asked),
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, before)
    return _report(args, dict(result.figures), result.finished)


def train_clip(args: argparse.Namespace) -> int:
    """``headlift train clip``."""
    from headlift.model.sizes import require_headnet
    from headlift_trainer.commands.eval_options import load_model
    from headlift_trainer.editing import pipeline
    from headlift_trainer.editing.data import pack_sets
    from headlift_trainer.recipes.editor import editor

    model = load_model(args.reconstruction)[1]
    net = require_headnet(model)
    config = editor(args.size, clip_minutes=args.clip_minutes, seed=args.seed, device=args.device)
    train, held_out = pack_sets(args.shards, net, args.out / "packed")
    _, figures, finished = pipeline.train_clip(
        train, held_out, net, args.out / "clip", config, say=lambda line: say(args, line), quiet=args.json
    )
    return _report(args, figures, finished)


def _report(args: argparse.Namespace, figures: dict[str, float], finished: bool) -> int:
    lines = [f"{name:32} {value:g}" for name, value in figures.items()]
    lines.append("done" if finished else "stopped; the same command goes on")
    emit(args, {"finished": finished, "figures": figures}, "\n".join(lines))
    return 0 if finished else 130
