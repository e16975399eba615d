"""reconstruct, render, turntable, export, list, delete: one head at a time, through the client SDK."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headlift.commands.session import (
    Subparsers,
    add_command,
    add_server_options,
    emit,
    head_dict,
    head_text,
    open_client,
    progress_bar,
)
from headlift.errors import InvalidInputError

PICTURES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
FILES = {
    ".compressed.ply": "ply_compressed",
    ".compact.ply": "ply_compact",
    ".ply": "ply",
    ".splat": "splat",
    ".spz": "spz_v3",
    ".sog": "sog",
    ".glb": "glb",
    ".usdz": "usdz",
    ".html": "html",
    ".wire": "wire",
}
_BAKE_TIMEOUT_S = 600.0  # a busy machine takes minutes
EXPORTS = ("ply", "ply_compact", "ply_compressed", "splat", "spz_v3", "spz_v4", "sog", "glb", "usdz", "html", "wire")


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    _register_reconstruct(subparsers)
    _register_render(subparsers)
    turn = add_command(subparsers, "turntable", "write a video of an orbit around a head (H.264)", turntable)
    turn.add_argument("head", help="name of the head, or its last part")
    turn.add_argument("--out", required=True, metavar="FILE.mp4")
    turn.add_argument("--frames", type=int, default=120, help="frames of the full circle (default: 120)")
    turn.add_argument("--fps", type=int, default=30)
    turn.add_argument("--size", type=int, default=512, help="side in pixels, even (default: 512)")
    turn.add_argument("--pitch", type=float, default=0.0, metavar="DEG")
    add_server_options(turn)
    out = add_command(
        subparsers, "export", "write a head as PLY, SPLAT, SPZ, SOG, GLB, USDZ, HTML or wire file", export
    )
    out.add_argument("head", help="name of the head, or its last part")
    out.add_argument("--out", required=True, metavar="FILE", help="its suffix tells the format")
    out.add_argument("--format", choices=EXPORTS, help="instead of the suffix")
    out.add_argument(
        "--sharpen",
        choices=["bake"],
        help="fit the Gaussians to sharpened views first, so that the file looks like the server's pictures",
    )
    add_server_options(out)
    add_server_options(add_command(subparsers, "list", "list the heads of the tenant", list_heads))
    gone = add_command(subparsers, "delete", "delete a head and all that was derived from its portrait", delete)
    gone.add_argument("head", help="name of the head, or its last part")
    add_server_options(gone)


def _register_reconstruct(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "reconstruct", "make a head of a portrait and store it", reconstruct)
    parser.add_argument("portrait", help="picture file")
    parser.add_argument("--refine-steps", type=int, metavar="N", help="0: the network alone (default: the server's)")
    parser.add_argument("--face", type=int, metavar="N", help="take the N-th largest face, from 0")
    parser.add_argument("--refuse-several", action="store_true", help="refuse pictures of several people")
    parser.add_argument("--check-only", action="store_true", help="only judge the portrait; store nothing")
    add_server_options(parser)


def _register_render(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "render", "take a picture of a head", render)
    parser.add_argument("head", help="name of the head, or its last part")
    parser.add_argument("--out", required=True, metavar="FILE", help=".jpg, .png or .webp")
    for name, about in (("yaw", "degrees, + to the head's left"), ("pitch", "degrees, + up"), ("roll", "degrees")):
        parser.add_argument(f"--{name}", type=float, default=0.0, metavar="DEG", help=about)
    parser.add_argument("--distance", type=float, metavar="M", help="metres from the middle of the head")
    parser.add_argument("--fov", type=float, metavar="DEG", help="angle across the shorter side")
    parser.add_argument("--width", type=int, default=512, metavar="PX")
    parser.add_argument("--height", type=int, default=512, metavar="PX")
    parser.add_argument("--quality", type=int, default=0, help="of JPEG and WebP, 1..100")
    parser.add_argument("--alpha", action="store_true", help="with opacity (PNG, WebP)")
    parser.add_argument("--no-sharpen", action="store_true", help="the splatted picture as it is")
    add_server_options(parser)


def reconstruct(args: argparse.Namespace) -> int:
    """``headlift reconstruct``."""
    with open_client(args) as client:
        head = client.create_head(
            args.portrait,
            several_faces="refuse" if args.refuse_several else "largest",
            face_index=args.face,
            refine_steps=args.refine_steps,
            validate_only=args.check_only,
        )
    emit(args, head_dict(head), head_text(head))
    return 0


def render(args: argparse.Namespace) -> int:
    """``headlift render``."""
    from headlift.client import camera

    kind = suffix_value(args.out, PICTURES)
    view = camera(args.yaw, args.pitch, args.roll, args.distance, args.fov)
    with open_client(args) as client:
        picture = client.render(
            args.head,
            [view],
            width=args.width,
            height=args.height,
            format=kind,
            quality=args.quality,
            alpha=args.alpha,
            sharpen=False if args.no_sharpen else None,
        )[0]
    write_file(Path(args.out), picture.data)
    emit(args, {"path": args.out, "size_bytes": len(picture.data)}, f"wrote {args.out}")
    return 0


def turntable(args: argparse.Namespace) -> int:
    """``headlift turntable``."""
    with open_client(args) as client:
        count = write_turntable(args, client, args.head, Path(args.out), args.frames, args.fps, args.size, args.pitch)
    emit(args, {"path": args.out, "frame_count": count, "fps": args.fps}, f"wrote {args.out}: {count} frames")
    return 0


def export(args: argparse.Namespace) -> int:
    """``headlift export``."""
    with open_client(args) as client:
        size = download(args, client, args.head, Path(args.out), args.format, args.sharpen)
    emit(args, {"path": args.out, "size_bytes": size}, f"wrote {args.out}: {size} bytes")
    return 0


def list_heads(args: argparse.Namespace) -> int:
    """``headlift list``."""
    with open_client(args) as client:
        heads = list(client.list_heads())
    text = "\n".join(f"{h.name}  {h.create_time.ToDatetime():%Y-%m-%d %H:%M:%S}" for h in heads)
    emit(args, {"heads": [head_dict(h) for h in heads]}, text or "no heads")
    return 0


def delete(args: argparse.Namespace) -> int:
    """``headlift delete``."""
    with open_client(args) as client:
        client.delete_head(args.head)
    emit(args, {"deleted": args.head}, f"deleted {args.head}")
    return 0


def write_turntable(
    args: argparse.Namespace, client: Any, head: Any, path: Path, frames: int, fps: int, size: int, pitch: float = 0.0
) -> int:
    """Write a video of an orbit around ``head`` with a progress bar; how many frames it has."""
    from headlift.media.video import write_video

    with progress_bar(args, frames, path.name, "frame") as bar:

        def frames_around() -> Iterator[Any]:
            orbit = client.orbit(
                head, frames, pitch_deg=pitch, width=size, height=size, format="raw_uint8", timeout_s=3600
            )
            for frame in orbit:
                bar.update()
                yield frame.picture.array()

        return write_video(frames_around(), path, fps)


def download(
    args: argparse.Namespace, client: Any, head: Any, path: Path, kind: str | None = None, sharpen: str | None = None
) -> int:
    """Write ``head`` as a file with a progress bar; the file's size."""
    kind = kind or suffix_value(str(path), FILES)
    with progress_bar(args, 0, path.name, "B") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def baking(share: float) -> None:
            bar.set_postfix_str(f"baking the sharpener's work in, {share:.0%}" if share < 1 else "")

        options = {} if sharpen is None else {"sharpen": sharpen, "bake_progress": baking, "timeout_s": _BAKE_TIMEOUT_S}
        return len(client.export(head, kind, path=path, progress=progress, **options))


def suffix_value(path: str, known: dict[str, str]) -> Any:
    """The value in ``known`` for the suffix of ``path``."""
    for suffix, value in known.items():  # .compressed.ply stands before .ply
        if path.lower().endswith(suffix):
            return value
    ending = Path(path).suffix or "nothing"
    raise InvalidInputError(f"{path} ends in {ending}; use one of {', '.join(known)}.", field="out")


def write_file(path: Path, data: bytes) -> None:
    """Write a file, or say why not."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}.", reason="NO_FILE", field="out") from None
