"""demo: one portrait in; files, a turntable, a sheet of views and a report out, through the public gRPC API."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlift import __version__
from headlift.commands.heads import download, write_file, write_turntable
from headlift.commands.session import Subparsers, add_command, add_server_options, emit, head_dict, open_client, say
from headlift.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

    from headlift.client import HeadliftClient
    from headlift.v1 import head_pb2

_FILES = {"head.ply": "ply", "head.spz": "spz_v3", "head.glb": "glb"}
_VIEWS = (
    ("front", 0.0, 0.0),
    ("three-quarter left", 40.0, 0.0),
    ("three-quarter right", -40.0, 0.0),
    ("profile left", 90.0, 0.0),
    ("profile right", -90.0, 0.0),
    ("back", 180.0, 0.0),
    ("top", 0.0, 65.0),
)
_PACKAGES = ("torch", "numpy", "grpcio", "protobuf", "pillow", "opencv-python-headless", "av")


@dataclass
class _StepTimer:
    """Wall seconds of the demo's own steps."""

    spent_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Record the time inside the block."""
        begin = time.perf_counter()
        yield
        self.spent_s[step] = round(time.perf_counter() - begin, 3)


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "demo", "one portrait in; 3D files, a film, views and a report out", demo)
    parser.add_argument("portrait", nargs="?", help="picture file (default: the astronaut that scikit-image carries)")
    parser.add_argument("--out", default="out/demo", metavar="DIR", help="where the results go (default: out/demo)")
    parser.add_argument("--refine-steps", type=int, metavar="N", help="0: the network alone (default: the server's)")
    parser.add_argument("--size", type=int, default=512, metavar="PX", help="side of film and views (default: 512)")
    parser.add_argument("--frames", type=int, default=120, help="frames of the film (default: 120)")
    add_server_options(parser)


def demo(args: argparse.Namespace) -> int:
    """``headlift demo``."""
    begin, times, out = time.perf_counter(), _StepTimer(), Path(args.out)
    name, picture = portrait_bytes(args.portrait)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{out} cannot be made: {error.strerror}.", field="out") from None
    # The demo's own server forgets the face when it ends.
    with tempfile.TemporaryDirectory(prefix="headlift-demo-") as scratch:
        overrides = {} if args.data_dir else {"data_dir": Path(scratch)}
        say(args, f"{name}: starting a server" if not args.server else f"{name}: asking {args.server}")
        started = time.perf_counter()
        with open_client(args, **overrides) as client:
            times.spent_s["start"] = round(time.perf_counter() - started, 3)
            head = _run(args, client, picture, out, times)
    report = _report(args, name, head, times, time.perf_counter() - begin)
    write_file(out / "report.json", (json.dumps(report, indent=1) + "\n").encode())
    emit(args, report, _summary(out, head, report))
    return 0


def _run(
    args: argparse.Namespace, client: HeadliftClient, picture: bytes, out: Path, times: _StepTimer
) -> head_pb2.Head:
    """Make the head and every file of it."""
    say(args, "reconstructing")
    with times.timing("create"):
        head = client.create_head(picture, refine_steps=args.refine_steps)
    say(args, "taking pictures")
    with times.timing("views.png"):  # before all else: it is what people look at first
        write_file(out / "views.png", _views(args, client, head, picture))
    say(args, f"wrote {out / 'views.png'}; now files and the film")
    with times.timing("export"):
        for file, kind in _FILES.items():
            download(args, client, head, out / file, kind)
    with times.timing("turntable.mp4"):
        write_turntable(args, client, head, out / "turntable.mp4", args.frames, 30, args.size)
    return head


def has_sample() -> bool:
    """Whether ``portrait_bytes`` has a picture of its own."""
    return importlib.util.find_spec("skimage") is not None


def portrait_bytes(path: str | None) -> tuple[str, bytes]:
    """Name and bytes of the picture at ``path``, or of the astronaut."""
    if path is not None:
        try:
            return Path(path).name, Path(path).read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", field="portrait") from None
    from PIL import Image
    from skimage.data import astronaut

    buffer = io.BytesIO()
    Image.fromarray(astronaut()).save(buffer, "PNG")  # type: ignore[no-untyped-call]
    return "astronaut (NASA, public domain, from scikit-image)", buffer.getvalue()


def _views(args: argparse.Namespace, client: HeadliftClient, head: head_pb2.Head, picture: bytes) -> bytes:
    """The labelled sheet of views, as PNG."""
    from headlift.client import camera
    from headlift.media.contact_sheet import contact_sheet

    cameras = [camera(yaw_deg=yaw, pitch_deg=pitch) for _, yaw, pitch in _VIEWS]
    pictures = client.render(head, cameras, width=args.size, height=args.size)
    tiles = [("input", _input_crop(picture, head.quality))]
    tiles += [(label, shot.image()) for (label, _, _), shot in zip(_VIEWS, pictures, strict=True)]
    buffer = io.BytesIO()
    contact_sheet(tiles).save(buffer, "PNG")
    return buffer.getvalue()


def _input_crop(picture: bytes, quality: head_pb2.Quality) -> Image.Image:
    """The portrait cropped as for the network, from the caller's own bytes."""
    import numpy as np
    from PIL import Image

    from headlift.stages.preprocess import decode_picture

    source = decode_picture(picture)
    side = quality.crop_size_px
    # From an upright source pixel to the crop; inverted, because Pillow asks where a pixel comes from.
    onto = np.vstack([np.array(quality.crop_from_source).reshape(2, 3), [0.0, 0.0, 1.0]])
    sx, sy = source.picture_from_source
    back = np.diag([sx, sy, 1.0]) @ np.linalg.inv(onto)
    upright = Image.fromarray(source.rgb)
    return upright.transform((side, side), Image.Transform.AFFINE, back[:2].ravel().tolist(), Image.Resampling.BICUBIC)


def _report(
    args: argparse.Namespace, name: str, head: head_pb2.Head, times: _StepTimer, total_s: float
) -> dict[str, Any]:
    record = head_dict(head)
    return {
        "portrait": name,
        "head": record,
        "face_box": record.get("quality", {}).get("face"),
        "quality": record.get("quality"),
        "weights_hash": head.weights_hash,
        "stage_ms": {t.stage: round(t.duration_ms, 1) for t in head.stage_timings},
        "steps_s": times.spent_s,
        "total_s": round(total_s, 3),
        "server": args.server or "embedded",
        "versions": {"headlift": __version__, "python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        "machine": {"system": platform.system(), "architecture": platform.machine(), "cpu_count": os.cpu_count()},
    }


def _summary(out: Path, head: head_pb2.Head, report: dict[str, Any]) -> str:
    stages = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in report["stage_ms"].items())
    reasons = f" ({', '.join(head.quality.reasons)})" if head.quality.reasons else ""
    return "\n".join(
        [
            f"{head.gaussian_count} Gaussians from {report['portrait']} in {report['total_s']:.1f} s",
            f"  stages   {stages}",
            f"  quality  {head.quality.score:.2f}{reasons}",
            f"  files    {', '.join(sorted(p.name for p in out.iterdir() if p.is_file()))} in {out}",
            f"  look at  {out / 'turntable.mp4'} and {out / 'views.png'}",
        ]
    )
