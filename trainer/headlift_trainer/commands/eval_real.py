"""eval avatars, renders, portraits: the paper's protocols, any other method's renders, photographs without truth."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from headlift.commands.session import Subparsers, add_command, progress_bar, say
from headlift.errors import InvalidInputError
from headlift_trainer.commands.eval_options import (
    add_network,
    add_networks,
    add_outputs,
    finish,
    load_model,
    load_networks,
    named_path,
    write_report,
    write_text,
)


def register_real(kinds: Subparsers) -> None:
    """Add the kinds that measure on given pictures."""
    _register_avatars(kinds)
    renders = add_command(kinds, "renders", "measure any method from a folder of its renders", compare)
    renders.add_argument(
        "--truth", type=Path, required=True, metavar="DIR", help="as `eval avatars --export` writes it"
    )
    renders.add_argument(
        "--renders", action="append", required=True, metavar="NAME=DIR", help="a method's renders; may be repeated"
    )
    add_networks(renders)
    add_outputs(renders)
    photographs = add_command(
        kinds,
        "portraits",
        "judge heads of photographs by likeness, mesh, detail and colours; no truth needed",
        portraits,
    )
    photographs.add_argument("folder", type=Path, metavar="DIR", help="pictures, one person each")
    photographs.add_argument("--refine-steps", type=int, default=100, metavar="N", help="default: 100")
    add_network(photographs)
    add_outputs(photographs)


def _register_avatars(kinds: Subparsers) -> None:
    parser = add_command(kinds, "avatars", "the paper's protocols on Ava-256 and NeRSemble", avatars)
    parser.add_argument("--data", action="append", required=True, type=Path, metavar="DIR", help="may be repeated")
    parser.add_argument("--protocol", choices=["novel", "extreme", "both"], default="both")
    add_network(parser)
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="side of the crops (default: 512)")
    parser.add_argument("--no-sharpen", action="store_true", help="the splatted picture as it is")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write inputs and truths there for other methods")
    add_networks(parser)
    add_outputs(parser)


def avatars(args: argparse.Namespace) -> int:
    """``headlift eval avatars``."""
    from headlift_trainer.evaluation import real, tables
    from headlift_trainer.evaluation.avatars import AvatarEvaluation, export, tasks
    from headlift_trainer.evaluation.protocols import PROTOCOLS

    weights, model = load_model(args.weights, args.backbone)
    networks = load_networks(args)
    run = AvatarEvaluation(model, networks, sharpen=not args.no_sharpen)
    protocols = PROTOCOLS if args.protocol == "both" else (args.protocol,)
    results: dict[str, Any] = {"weights": weights.name, "absent_metrics": list(networks.absent), "datasets": {}}
    printed = []
    for folder in args.data:
        source = real.open_source(folder, args.size)
        say(args, f"{source.name}: {len(source.moments)} moments of {len(source.found)} subjects")
        work = [t for name in protocols for t in tasks(source.moments, name, vertical=source.vertical)]
        before = len(run.records)
        with progress_bar(args, len(work), source.name, "input") as bar:
            for task in work:
                run(task)
                if args.export:
                    export(task, args.export)
                bar.update()
        records = real.since(run.records, before)
        table = tables.method_table(records, source.name, published=source.published)
        printed.append(table)
        results["datasets"][source.name] = {
            "subjects": source.found,
            "missing_subjects": source.missing,
            "views": len(records),
            "table": table.json(),
        }
    notes = [
        f"{n}: subjects not found: {', '.join(d['missing_subjects'])}."
        for n, d in results["datasets"].items()
        if d["missing_subjects"]
    ]
    write_report(args, "Headlift: the paper's protocols", results, printed, notes)
    finish(args, results, printed)
    return 0


def compare(args: argparse.Namespace) -> int:
    """``headlift eval renders``."""
    from headlift_trainer.evaluation.folders import compare_folders
    from headlift_trainer.evaluation.tables import method_table

    folders = dict(named_path(text, "renders") for text in args.renders)
    networks = load_networks(args)
    result = compare_folders(args.truth, folders, networks, quiet=args.json)
    notes = {name: f"{len(gone)} of {result.truths} missing" for name, gone in result.missing.items() if gone}
    printed = [method_table(result.records, "Renders", notes=notes)]
    if notes:
        title = f"Renders: the {len(result.complete.where(method=next(iter(folders))))} views that every method has"
        printed.append(method_table(result.complete, title))
    results = {
        "truths": result.truths,
        "missing": result.missing,
        "resized": result.resized,
        "absent_metrics": list(networks.absent),
        "tables": [table.json() for table in printed],
    }
    lines = [f"{name} lacks {', '.join(gone)}" for name, gone in result.missing.items() if gone]
    lines += [f"{name}: resized {', '.join(names)}" for name, names in result.resized.items() if names]
    write_report(args, "Headlift: renders against the truth", results, printed, lines)
    finish(args, results, printed, lines)
    return 0


def portraits(args: argparse.Namespace) -> int:
    """``headlift eval portraits``."""
    from headlift.settings import Settings
    from headlift_trainer.evaluation.portraits import PortraitEvaluation, portrait_files, summary
    from headlift_trainer.evaluation.report import Report
    from headlift_trainer.evaluation.tables import Column, Row, Table

    if args.refine_steps < 0:
        raise InvalidInputError(f"--refine-steps is {args.refine_steps}; it must be >= 0.", field="refine_steps")
    files = portrait_files(args.folder)
    own = {"weights": args.weights, "backbone_weights": args.backbone}
    settings = replace(Settings.from_env(), **{name: value for name, value in own.items() if value is not None})
    run, results = PortraitEvaluation(settings, args.refine_steps), []
    with progress_bar(args, len(files), "photographs", "head") as bar:
        for file in files:
            results.append(run(file))
            bar.update()
    found = summary(results)
    rows = [
        Row(m.name, (*m.likeness.values(), m.mesh_error_percent, m.lite0, m.detail["front"], m.hair_delta_e, m.quality))
        for m in (r.metrics for r in results)
        if m is not None
    ]
    titles = ("input", "front", "±20°", "±40°", "±60°", "mesh, %", "Lite0", "detail", "hair ΔE", "quality")
    table = Table("Portraits", tuple(Column(title, title=title) for title in titles), tuple(rows), first="Photograph")
    notes = [f"{name}: refused, {reason}" for name, reason in found["refusals"].items()]
    if args.report:
        sheets = [r.sheet for r in results if r.sheet is not None]
        about = [f"{len(rows)} heads; likeness is 1 - the distance of dlib's descriptors, the same person is above .4."]
        page = Report("Headlift: heads of photographs", about, found, tables=[table], sheets=sheets, notes=notes)
        write_text(args.report, page.html())
    finish(args, found | {"heads": [asdict(r.metrics) for r in results if r.metrics is not None]}, [table], notes)
    return 0
