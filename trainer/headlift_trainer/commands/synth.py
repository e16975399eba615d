"""synth, synth pack: synthetic heads with labels, and small asset folders to make them from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from headlift.commands.session import Subparsers, add_command, emit, progress_bar, say
from headlift.errors import InvalidInputError, NotFoundError

# Named here as well as in `synthetic.render.views` and `synthetic.source.seeds`, which take seconds to import; a test
# holds them together.
VIEWS = ("rig", "nersemble", "face", "cafca", "idts")
SOURCES = ("auto", "makehuman", "ict", "procedural", "mixed")
_PREVIEWED = 8  # heads of a preview where --count is not given


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(subparsers, "synth", "render synthetic heads with perfect labels", synth)
    parser.add_argument("--assets", type=Path, metavar="DIR", help="asset folder; without it heads are procedural")
    parser.add_argument("--source", choices=SOURCES, default="auto", help="default: all that the asset folder allows")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for heads; what lies there is kept")
    parser.add_argument("--preview", type=Path, metavar="FILE", help="draw a contact sheet of the first heads (.png)")
    parser.add_argument(
        "--count", type=int, metavar="N", help="heads (geometries) of all sources together (default: 8)"
    )
    parser.add_argument("--start", type=int, default=0, metavar="N", help="first head of each source (default: 0)")
    parser.add_argument("--size", type=int, default=256, metavar="PX", help="side of a picture (default: 256)")
    parser.add_argument("--views", choices=VIEWS, default="rig", help="cameras (default: rig, 8 fixed and 6 random)")
    parser.add_argument("--appearances", type=int, default=2, metavar="N", help="dressings of each head (default: 2)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument(
        "--random-focal", action="store_true", help="random views with focal lengths of their own; readers must heed Ks"
    )
    kinds = parser.add_subparsers(metavar="WHAT")
    packed = add_command(kinds, "pack", "write a small asset folder that makes the same heads", pack)
    # dests of their own: a subcommand's defaults would hide what stands before it
    packed.add_argument("--assets", type=Path, metavar="DIR", required=True, dest="pack_from", help="asset folder")
    packed.add_argument("--out", type=Path, metavar="DIR", required=True, dest="pack_to", help="new folder")


def synth(args: argparse.Namespace) -> int:
    """``headlift synth``."""
    from headlift_trainer.synthetic.source.seeds import seeds_for

    count = _PREVIEWED if args.count is None else args.count
    if args.out is None and args.preview is None:
        raise InvalidInputError("Nothing to do: give --out DIR for heads, --preview FILE for a contact sheet, or both.")
    if count < 1 or args.start < 0 or args.workers < 1:
        raise InvalidInputError(
            f"--count {count}, --start {args.start} and --workers {args.workers} must be at least 1, 0 and 1."
        )
    names = _sources(args)
    seeds = seeds_for(names, count, args.start)
    say(args, f"{count} heads from {', '.join(names)}")
    result: dict[str, Any] = {"sources": list(names), "seeds": seeds}
    lines = []
    if args.preview is not None:
        rows = seeds if args.out is None else seeds[:_PREVIEWED]
        _draw_preview(args, rows)
        result["preview"] = str(args.preview)
        lines.append(f"{len(rows)} heads drawn into {args.preview}")
    if args.out is not None:
        result |= _write(args, seeds)
        lines.append(f"{result['written']} files written to {args.out}, {result['seconds']:.0f} s")
    emit(args, result, "\n".join(lines))
    return 0


def pack(args: argparse.Namespace) -> int:
    """``headlift synth pack``."""
    from headlift_trainer.synthetic.pack import LIMIT_BYTES
    from headlift_trainer.synthetic.pack import pack as shrink

    with progress_bar(args, 0, "files", "file") as bar:
        packed = shrink(args.pack_from, args.pack_to, bar.update)
    result = {"files": packed.files, "bytes_before": packed.bytes_before, "bytes_after": packed.bytes_after}
    text = f"{packed.files} files, {packed.bytes_before / 1e6:.1f} MB -> {packed.bytes_after / 1e6:.1f} MB"
    if packed.bytes_after > LIMIT_BYTES:
        text += f"; more than the {LIMIT_BYTES / 1e6:.0f} MB that it should be: the folder holds further assets"
    emit(args, result, text)
    return 0


def _sources(args: argparse.Namespace) -> tuple[str, ...]:
    from headlift_trainer.synthetic.source.seeds import SHARES, sources_in

    if args.assets is not None and not args.assets.is_dir():
        raise NotFoundError(f"There is no asset folder {args.assets.name!r}; see --assets.")
    known = sources_in(args.assets)
    if args.source == "auto":
        return known
    wanted = tuple(SHARES) if args.source == "mixed" else (args.source,)
    missing = [name for name in wanted if name not in known]
    if missing:
        way = "name an asset folder that holds them with --assets" if args.assets is None else "complete the folder"
        raise NotFoundError(f"Heads of {', '.join(missing)} need assets; {way}, or use --source procedural.")
    return wanted


def _draw_preview(args: argparse.Namespace, seeds: list[int]) -> None:
    from PIL import Image

    from headlift_trainer.synthetic.contact_sheet import contact_sheet
    from headlift_trainer.synthetic.source.registry import Sources

    if args.preview.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InvalidInputError(f"A preview is a .png or .jpg file, not {args.preview.name!r}.")
    with progress_bar(args, len(seeds), "preview", "head") as bar:
        sheet = contact_sheet(Sources(args.assets), seeds, args.size, bar.update)
    args.preview.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(args.preview)


def _write(args: argparse.Namespace, seeds: list[int]) -> dict[str, Any]:
    import time

    from headlift_trainer.synthetic.generate import generate

    written, began = 0, time.monotonic()
    with progress_bar(args, len(seeds), "heads", "head") as bar:
        steps = generate(
            args.assets, args.out, seeds, args.size, args.workers,
            views=args.views, appearances=args.appearances, random_focal=args.random_focal,
        )  # fmt: skip
        for _, written in steps:
            bar.update()
            bar.set_postfix(files=written)
    return {"out": str(args.out), "written": written, "seconds": round(time.monotonic() - began, 2)}
