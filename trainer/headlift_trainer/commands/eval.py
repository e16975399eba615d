"""eval: metrics on held-out generated heads, the paper's protocols, other methods' renders, the baselines' file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from headlift.commands.session import Subparsers, add_command, emit, progress_bar, say
from headlift.errors import InvalidInputError, NotFoundError
from headlift_trainer.commands.eval_edit import register_edit
from headlift_trainer.commands.eval_options import (
    add_network,
    add_networks,
    add_outputs,
    finish,
    load_model,
    load_networks,
    load_one_of,
    named_path,
    shipped_weights,
    write_text,
)
from headlift_trainer.commands.eval_real import register_real

if TYPE_CHECKING:
    from headlift.model.sizes import HeadModel
    from headlift_trainer.evaluation.baselines import Baselines
    from headlift_trainer.evaluation.held_out import HeldOutHeads

BASELINES_FILE = "baselines.safetensors"
MOST_WORKERS = 8  # each holds half a gigabyte


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("eval", help="measure weights and other methods", description="measure quality")
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    _register_synthetic(kinds)
    register_real(kinds)
    register_edit(kinds)
    made = add_command(
        kinds, "baselines", "write the compact file of training heads that ships with weights", baselines
    )
    made.add_argument("--train-shards", type=Path, required=True, metavar="DIR")
    made.add_argument("--targets", type=Path, required=True, metavar="DIR")
    add_network(made)
    made.add_argument("--shards", type=Path, metavar="DIR", help="held-out heads to measure on what the coding costs")
    made.add_argument("--out", type=Path, metavar="FILE", help=f"default: {BASELINES_FILE} beside the weights")


def _register_synthetic(kinds: Subparsers) -> None:
    parser = add_command(kinds, "synthetic", "metrics on generated heads that nothing was trained on", synthetic)
    heads = parser.add_argument_group("held-out heads", "default: the procedural ones, generated from code alone")
    heads.add_argument("--shards", type=Path, metavar="DIR", help="take them from this folder of generated heads")
    heads.add_argument(
        "--assets", type=Path, metavar="DIR", help="generate those of all sources from this asset folder"
    )
    heads.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep generated heads here for the next time (default: nowhere)"
    )
    heads.add_argument(
        "--workers", type=int, metavar="N", help="processes that generate (default: one a core, up to 8)"
    )
    heads.add_argument("--limit", type=int, metavar="N", help="only so many heads, evenly over the sources")
    base = parser.add_argument_group("baselines", f"default: {BASELINES_FILE} beside the weights")
    base.add_argument(
        "--train-shards", type=Path, metavar="DIR", help="take them from the training heads themselves ..."
    )
    base.add_argument("--targets", type=Path, metavar="DIR", help="... and these anchor targets")
    base.add_argument("--baselines", type=Path, metavar="FILE", help="another file of baselines")
    add_network(parser)
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="other weights on the same heads; may be repeated",
    )
    parser.add_argument("--refine", type=int, default=0, metavar="N", help="measure N heads with refinement too (slow)")
    parser.add_argument("--refine-steps", type=int, default=100, metavar="N")
    parser.add_argument("--no-profile", action="store_true", help="only from the front")
    add_networks(parser)
    add_outputs(parser)


def synthetic(args: argparse.Namespace) -> int:
    """``headlift eval synthetic``."""
    from headlift.model.checkpoint import weights_hash
    from headlift.model.refine.settings import RefineSettings
    from headlift_trainer.evaluation.release import SheetKeeper, synthetic_report, synthetic_tables
    from headlift_trainer.evaluation.synthetic import Settings, SyntheticEvaluation

    if args.refine < 0:
        raise InvalidInputError(f"--refine is {args.refine}; it must be >= 0 heads.", field="refine")
    weights, model = load_model(args.weights, args.backbone)
    base = _baselines(args, model, weights)
    settings = Settings(
        profile=not args.no_profile, refine_heads=args.refine, refine=RefineSettings(steps=args.refine_steps)
    )
    variants = {
        name: load_one_of(file, args.backbone) for name, file in (named_path(text, "also") for text in args.also)
    }
    run, keeper = SyntheticEvaluation(model, base, settings, load_networks(args), variants), SheetKeeper()
    with _held_out(args) as heads, progress_bar(args, len(heads), "held-out heads", "head") as bar:
        for _ in run(heads, keeper if args.report else None):
            bar.update()
    results = run.metrics() | {
        "count": len(heads),
        "identities": heads.identities,
        "sources": heads.sources,
        "picture_size": run.picture_size,
        "weights": {"name": weights.name, "sha256": weights_hash(weights)},
        "baselines": base.description,
    }
    tables = synthetic_tables(run.records, results)
    if args.report:
        write_text(args.report, synthetic_report(results, run.records, keeper).html())
    finish(args, results, tables)
    return 0


def baselines(args: argparse.Namespace) -> int:
    """``headlift eval baselines``."""
    from headlift_trainer.evaluation.baselines import TrainingBaselines
    from headlift_trainer.evaluation.coded_baselines import add_note, coding_gap, load_baselines, save_baselines
    from headlift_trainer.evaluation.held_out import HeldOutHeads

    weights, model = load_model(args.weights, args.backbone)
    out = args.out or weights.with_name(BASELINES_FILE)
    training = TrainingBaselines(model, args.train_shards, args.targets)
    say(args, f"{len(training.entries)} training heads")
    size = save_baselines(out, model, weights, training)
    if args.shards is not None:
        heads = HeldOutHeads(args.shards, limit=40)
        note = coding_gap(training, load_baselines(out, model, weights), heads)
        size = add_note(out, note)
    coded = load_baselines(out, model, weights)
    data = {"path": str(out), "size_bytes": size} | coded.description
    emit(args, data, f"wrote {out}: {size} bytes, {json.dumps(coded.description)}")
    return 0


@contextmanager
def _held_out(args: argparse.Namespace) -> Iterator[HeldOutHeads]:
    """From a folder of shards, or generated first; what no --cache keeps goes at the end."""
    from headlift_trainer.evaluation.held_out import HeldOutHeads, make_held_out

    if args.shards is not None:
        if not args.shards.is_dir():
            raise NotFoundError(f"There is no folder {args.shards.name} of generated heads; correct --shards.")
        yield HeldOutHeads(args.shards, limit=args.limit)
        return
    if args.assets is not None and not args.assets.is_dir():
        raise NotFoundError(f"There is no asset folder {args.assets.name!r}; correct --assets, or leave it away.")
    workers = min(os.cpu_count() or 1, MOST_WORKERS) if args.workers is None else args.workers
    with ExitStack() as stack:
        # On stderr, with --json too: it takes a minute or more, and what is printed stays clean.
        bar = stack.enter_context(tqdm(desc="generating held-out heads", unit="head", file=sys.stderr, mininterval=2))
        kept = args.cache or Path(stack.enter_context(TemporaryDirectory(prefix="headlift-held-out-")))

        def tick(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        heads = make_held_out(kept, args.assets, args.limit, workers=workers, tick=tick)
        bar.close()
        yield heads


def _baselines(args: argparse.Namespace, model: HeadModel, weights: Path) -> Baselines:
    """From training heads where they are given, else from the file beside the weights."""
    from headlift_trainer.evaluation.baselines import TrainingBaselines
    from headlift_trainer.evaluation.coded_baselines import load_baselines, made_for

    if (args.train_shards is None) != (args.targets is None):
        raise InvalidInputError("--train-shards and --targets go together; give both or neither.", field="targets")
    if args.train_shards is not None:
        return TrainingBaselines(model, args.train_shards, args.targets)
    from headlift.model.checkpoint import weights_hash

    shipped = shipped_weights()
    path = args.baselines or weights.with_name(BASELINES_FILE)
    path = path if path.is_file() or args.baselines else shipped.with_name(BASELINES_FILE)
    if weights != shipped and made_for(path) == weights_hash(shipped):
        # The heads of the shipped file are what they are, whichever weights are measured against them.
        weights, model = shipped, load_one_of(shipped, None)
    return load_baselines(path, model, weights)
