"""data check, data prepare, data export: real data in their published layouts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from headlift.commands.session import Subparsers, add_command, emit, progress_bar, say
from headlift.errors import InvalidInputError

# Named here as well as in `headlift_trainer.datasets.opening`, which takes seconds to import; a test holds the two
# together.
KINDS = ("nersemble", "cafca", "ffhq", "vfhq", "ava256", "synthetic")
_TITLES = {"nersemble": "NeRSemble", "ava256": "Ava-256", "cafca": "Cafca"}


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("data", help="look through and prepare data sets", description="data sets of heads")
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    checked = add_command(kinds, "check", "what is missing or broken in a folder, and what training leaves out", check)
    _add_folder(checked)
    checked.add_argument("--samples", type=int, default=0, metavar="N", help="draw so many samples into --out")
    checked.add_argument("--out", type=Path, metavar="FILE", help="contact sheet (default: samples.png)")
    checked.add_argument("--limit", type=int, default=500, metavar="N", help="decode so many items (default: 500)")
    checked.add_argument("--seed", type=int, default=0, help="of the samples")
    made = add_command(kinds, "prepare", "find head poses and masks where the data have none, and keep them", prepare)
    _add_folder(made)
    made.add_argument("--headnet", type=Path, metavar="FILE", required=True, help="HeadNet weights")
    made.add_argument("--moments", type=int, default=1, metavar="N", help="moments of each subject (default: 1)")
    made.add_argument("--no-masks", action="store_true", help="poses only")

    out = add_command(kinds, "export", "write the held-out people as `eval avatars` reads them", export)
    _add_folder(out)
    out.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    out.add_argument("--size", type=int, default=512, metavar="PX", help="side of the crops (default: 512)")
    out.add_argument("--moments", type=int, default=1, metavar="N", help="moments of each person (default: 1)")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="the data set's folder")
    parser.add_argument("--kind", choices=["auto", *KINDS], default="auto", help="default: by the layout")


def check(args: argparse.Namespace) -> int:
    """``headlift data check``: exit code 1 when something is broken."""
    from headlift_trainer.datasets import checking
    from headlift_trainer.datasets.sheet import draw_samples

    if args.samples < 0 or args.limit < 1:
        raise InvalidInputError(f"--samples {args.samples} and --limit {args.limit} must be at least 0 and 1.")
    with progress_bar(args, 0, "items", "item") as bar:
        report, dataset = checking.check(args.folder, args.kind, limit=args.limit, tick=bar.update)
    results = report.json()
    if args.samples and len(dataset):
        out = args.out or Path("samples.png")
        try:
            results["samples"] = draw_samples(dataset, args.samples, out, seed=args.seed)
            say(args, f"{results['samples']} samples drawn into {out}")
        except InvalidInputError as error:
            report.fault(f"samples: {error.message}")
            results = report.json()
    emit(args, results, report.text())
    return 1 if report.broken else 0


def prepare(args: argparse.Namespace) -> int:
    """``headlift data prepare``."""
    from headlift.model.mini.headnet import load_headnet
    from headlift_trainer.datasets.opening import detect_kind
    from headlift_trainer.datasets.prepare import Preparation

    kind = detect_kind(args.folder) if args.kind == "auto" else args.kind
    work = Preparation(args.folder, kind, load_headnet(args.headnet), moments=args.moments, masks=not args.no_masks)
    with progress_bar(args, len(work), kind, "item") as bar:
        for _ in work.run():
            bar.update()
    made = {"poses": work.poses, "masks": work.masks, "occluded": work.occluded, "failed": work.failed}
    text = f"{work.poses} poses, {work.masks} masks, {work.occluded} found occluded, {len(work.failed)} failed"
    failed = "\n".join(f"  {text}" for text in work.failed[:50])
    emit(args, made, f"{text}\n{failed}".rstrip())
    return 0


def export(args: argparse.Namespace) -> int:
    """``headlift data export``."""
    from headlift_trainer.datasets.opening import detect_kind, open_dataset
    from headlift_trainer.datasets.rig import RigDataset
    from headlift_trainer.evaluation.real import write_moment

    kind = detect_kind(args.folder) if args.kind == "auto" else args.kind
    if kind not in ("nersemble", "ava256", "cafca"):
        raise InvalidInputError(f"{kind} has single pictures or needs no export; nersemble, ava256 and cafca do.")
    dataset = open_dataset(kind, args.folder, size=args.size, split="validation", moments_per_subject=args.moments)
    assert isinstance(dataset, RigDataset)
    args.out.mkdir(parents=True, exist_ok=True)
    with progress_bar(args, len(dataset), kind, "moment") as bar:
        for index in range(len(dataset)):
            write_moment(args.out, dataset.moment(index))
            bar.update()
    about = {"name": _TITLES[kind], "subjects": None if kind == "cafca" else kind}
    (args.out / "dataset.json").write_text(json.dumps(about))
    emit(args, {"moments": len(dataset), "subjects": list(dataset.subjects)}, f"{len(dataset)} moments written")
    return 0
