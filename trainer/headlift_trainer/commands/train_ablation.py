"""train ablation: our perceptual loss against L1 + SSIM, each with and without pictures as from the wild."""

from __future__ import annotations

import argparse
from pathlib import Path

from headlift.commands.session import Subparsers, add_command, say
from headlift.errors import InvalidInputError
from headlift_trainer.commands.eval_options import finish

_MINUTES = 30.0  # of a run, where no option says otherwise


def register_ablation(kinds: Subparsers) -> None:
    """Add the command."""
    parser = add_command(kinds, "ablation", "losses and augmentation against each other, from one shared start", ablate)
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="generated heads, held-out ones too")
    parser.add_argument("--targets", type=Path, required=True, metavar="DIR", help="their anchor targets")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for everything; also to go on")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--start", type=Path, metavar="FILE", help="checkpoint whose closed forms all runs start from")
    start.add_argument("--headnet", type=Path, metavar="FILE", help="trained HeadNet; the closed forms are made first")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="of wall time for each of the four (default: 30)")
    length.add_argument(
        "--steps", type=int, metavar="N", help="optimiser steps for each instead, whatever time they take"
    )
    parser.add_argument("--heads", type=int, default=24, help="held-out heads that are measured (default: 24)")
    parser.add_argument("--most", type=int, metavar="N", help="train on so many geometries at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="write the tables (default: OUT/ablation.md)")


def ablate(args: argparse.Namespace) -> int:
    """``headlift train ablation``."""
    from headlift_trainer.ablation import run_ablation, tables
    from headlift_trainer.closed_form import fit_closed_forms
    from headlift_trainer.datasets.synthetic import Corpus
    from headlift_trainer.provenance import TrainingCost
    from headlift_trainer.recipes.ablation import ablation
    from headlift_trainer.synthetic.source.seeds import HELD_OUT
    from headlift_trainer.tasks.mini import save_checkpoint
    from headlift_trainer.template.build import builtin_template

    lengths = [n for n in (args.minutes, args.steps) if n is not None]
    if any(n <= 0 for n in lengths) or args.heads < 1 or (args.most is not None and args.most < 2):
        raise InvalidInputError("--minutes and --steps must be over 0, --heads at least 1 and --most at least 2.")
    known = sorted(int(path.stem) for path in args.targets.glob("[0-9]*.npz") if int(path.stem) not in HELD_OUT)
    known = known if args.most is None else known[:: max(1, len(known) // args.most)][: args.most]
    corpus = Corpus.of(args.shards, args.targets, builtin_template(), known, sorted(HELD_OUT))
    if args.steps is None and args.minutes is None:
        args.minutes = _MINUTES
    runs = ablation(args.minutes, steps=args.steps, seed=args.seed, device=args.device)
    start = args.start or args.out / "closed_forms.safetensors"
    if not start.is_file() and args.headnet is not None:
        say(args, f"closed forms of {len(known)} heads")
        args.out.mkdir(parents=True, exist_ok=True)
        config = next(iter(runs.values()))
        model, figures = fit_closed_forms(config, corpus.train, args.headnet)
        save_checkpoint(model, config, start, corpus.train, TrainingCost(), figures)
    results = run_ablation(
        runs, start, corpus, args.out, heads=args.heads, say=lambda line: say(args, line), quiet=args.json
    )
    args.markdown = args.markdown or args.out / "ablation.md"
    length_of_runs = {"minutes_a_run": args.minutes, "steps_a_run": args.steps}
    finish(args, length_of_runs | {"training_heads": len(known), "runs": results}, tables(results))
    return 0
