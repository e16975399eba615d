"""batch: a manifest of portraits in; heads, views, turntables and one result row an item out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headlift.commands.session import (
    Subparsers,
    add_command,
    add_network_options,
    emit,
    interruptible,
    progress_bar,
    say,
    settings_of,
    suited_here,
)

if TYPE_CHECKING:
    from headlift.batch.run import Job, Outcome, Workforce

_EXPORTS = ("ply", "ply_compact", "ply_compressed", "splat", "spz_v3", "spz_v4", "sog", "glb", "usdz", "html", "wire")


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "batch", "heads of many portraits; started again, it goes on where it stopped", batch
    )
    parser.add_argument(
        "manifest", help="folder, s3://BUCKET/PREFIX/, list (.csv, .jsonl, .parquet with a column `picture`) or clip"
    )
    parser.add_argument("--out", required=True, metavar="URI", help="folder or s3://BUCKET/PREFIX of all that is made")
    made = parser.add_argument_group("what is made of each")
    made.add_argument(
        "--export", nargs="*", choices=_EXPORTS, default=["spz_v3"], metavar="KIND", help=f"of {', '.join(_EXPORTS)}"
    )
    made.add_argument(
        "--views", nargs="*", type=_view, default=[(0.0, 0.0)], metavar="YAW[,PITCH]", help="degrees (default: 0)"
    )
    made.add_argument("--view-format", choices=("jpeg", "png", "webp"), default="jpeg")
    made.add_argument("--turntable", type=int, default=0, metavar="N", help="frames of a film (default: none)")
    made.add_argument("--size", type=int, default=512, metavar="PX", help="side of views and films (default: 512)")
    made.add_argument("--refine-steps", type=int, metavar="N", help="0: the network alone (default: the setting)")
    made.add_argument("--refuse-several", action="store_true", help="refuse pictures of several people")
    clip = parser.add_argument_group("clips")
    clip.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th frame (default: 1)")
    clip.add_argument("--frames", type=int, default=0, metavar="N", help="take N frames at most (default: all)")
    who = parser.add_argument_group("who does it")
    who.add_argument("--workers", type=int, default=1, metavar="N", help="actors in Ray (default: 1)")
    who.add_argument("--no-ray", action="store_true", help="one worker in this process instead")
    who.add_argument("--ray-address", metavar="ADDRESS", help="use this cluster (default: start one of this machine)")
    who.add_argument("--cpus", type=float, default=1.0, help="cores of a worker (default: 1)")
    who.add_argument("--gpus", type=float, default=0.0, help="GPUs of a worker, or a part of one (default: 0)")
    add_network_options(who)
    how = parser.add_argument_group("how it goes on")
    how.add_argument("--block", type=int, default=8, metavar="N", help="items whose rows become one file (default: 8)")
    how.add_argument("--attempts", type=int, default=3, metavar="N", help="workers that may die over one picture")
    how.add_argument("--retry-failed", action="store_true", help="do items again that FAILED")
    how.add_argument("--cost-per-hour", type=float, default=0.0, metavar="X", help="of a worker, for the summary")


def batch(args: argparse.Namespace) -> int:
    """``headlift batch``."""
    from headlift.batch.run import run

    job = _job(args)
    with (
        interruptible() as check_interrupted,
        _workforce(args) as workforce,
        progress_bar(args, 0, "batch", "item") as bar,
    ):

        def progress(done: int, total: int, row: Any) -> None:
            check_interrupted()
            bar.total = total
            bar.update(done - bar.n)

        workers = 1 if args.no_ray else args.workers
        outcome = run(job, workforce, workers=workers, progress=progress)
    emit(args, *_report(args, outcome))
    return 0


def _job(args: argparse.Namespace) -> Job:
    from headlift.batch.output_spec import OutputSpec
    from headlift.batch.run import Job
    from headlift.media.clip import Stride

    settings = settings_of(args)
    if not args.ray_address:
        settings = suited_here(args, settings)
    spec = OutputSpec(
        exports=tuple(dict.fromkeys(args.export)),
        views=tuple(dict.fromkeys(args.views)),
        view_format=args.view_format,
        size=args.size,
        turntable_frames=args.turntable,
        refine_steps=settings.refine_steps if args.refine_steps is None else args.refine_steps,
        refuse_several=args.refuse_several,
        attempts=args.attempts,
    )
    return Job(
        manifest=args.manifest,
        out=args.out,
        output_spec=spec,
        settings=settings,
        stride=Stride(args.every, args.frames),
        block_items=args.block,
        retry_failed=args.retry_failed,
        hourly_cost=args.cost_per_hour,
    )


@contextmanager
def _workforce(args: argparse.Namespace) -> Iterator[Workforce]:
    """Whoever does the items, as long as the block."""
    if args.no_ray:
        from headlift.batch.run import run_local

        yield run_local
        return
    from headlift.batch.ray_data import Pool, pooled
    from headlift.serving.ray_app import connected

    pool = Pool(args.workers, args.cpus, args.gpus)
    say(args, "joining Ray" if args.ray_address else "starting Ray")
    with connected(args.ray_address or ""):
        yield pooled(pool)


def _report(args: argparse.Namespace, outcome: Outcome) -> tuple[dict[str, Any], str]:
    from collections import Counter

    reasons = dict(Counter(f"{row.status} {row.reason}" for row in outcome.rows).most_common())
    data = {
        "items": len(outcome.rows),
        "done_now": outcome.done_now,
        "wall_s": round(outcome.wall_s, 3),
        "reasons": reasons,
        "out": args.out,
    }
    lines = [f"{count:8,}  {reason}" for reason, count in reasons.items()]
    text = f"{len(outcome.rows):,} items, {outcome.done_now:,} of them now, in {outcome.wall_s:.1f} s"
    return data, "\n".join([text, *lines, f"results.parquet and summary.html are in {args.out}"])


def _view(text: str) -> tuple[float, float]:
    yaw, _, pitch = text.partition(",")
    try:
        return float(yaw), float(pitch or 0.0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no YAW[,PITCH] in degrees") from None
