"""bench live: what live sessions cost: latency end to end, frames a second, bytes a frame.

One request is in flight at a time, so latency is what a viewer feels and the rate is its inverse. Views are rendered
of a cached head, then of heads that are reconstructed for every frame; heads are sent whole and as deltas. The frames
are one portrait that moves and changes its light a little, as a person before a camera does.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from headlift.commands.bench_serve import started
from headlift.commands.demo import portrait_bytes
from headlift.commands.session import Subparsers, add_command, add_network_options, emit, network_settings, say
from headlift.errors import HeadliftError

if TYPE_CHECKING:
    from headlift.client import HeadliftClient
    from headlift.model.types import Gaussians

FORMATS = ("jpeg", "webp", "h264")
_YAWS = (0.0, 30.0)  # where decoded heads are compared from


def register(kinds: Subparsers) -> None:
    """Add the command below ``bench``."""
    parser = add_command(kinds, "live", "measure live sessions: views, reconstruction of every frame, deltas", live)
    parser.add_argument("portrait", nargs="?", help="picture file (default: the astronaut that scikit-image carries)")
    parser.add_argument("--runtime", default="embedded", help="of bench serve's runtimes (default: embedded)")
    parser.add_argument("--views", type=int, default=60, help="views of the cached head in each format (default: 60)")
    parser.add_argument("--frames", type=int, default=8, help="frames that are reconstructed (default: 8)")
    parser.add_argument("--size", type=int, default=512, help="side of views, pixels (default: 512)")
    add_network_options(parser)


def live(args: argparse.Namespace) -> int:
    """``headlift bench live``."""
    from headlift.client import HeadliftClient

    name, picture = portrait_bytes(args.portrait)
    say(args, f"{name}: a fresh server ({args.runtime})")
    frames = list(moving_portrait(picture, args.frames))
    with started(args.runtime, network_settings(args)) as server, HeadliftClient(server.address) as client:
        head = client.create_head(picture, refine_steps=0)
        say(args, f"views of a cached head, {args.views} in each format")
        views = {kind: _views(client, head.name, kind, args) for kind in FORMATS}
        say(args, f"views of heads that are reconstructed, {len(frames)} frames in each format")
        reconstructed = {kind: _reconstructed(client, frames, kind, args) for kind in FORMATS}
        say(args, f"heads whole and as deltas, {len(frames)} frames")
        heads = _heads(client, frames)
        memory = server.memory_mb()
    metrics = {
        "size_px": args.size,
        "views": views,
        "reconstruct": reconstructed,
        "heads": heads,
        "server_rss_mb": memory,
    }
    emit(args, metrics, _text(metrics))
    return 0


def moving_portrait(picture: bytes, count: int) -> Iterator[bytes]:
    """``count`` JPEG files of a portrait that sways by a hundredth of its width under changing light."""
    from PIL import Image, ImageEnhance

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for index in range(count):
        turn = 0.3 * index
        shift = (0.006 * image.width * math.sin(turn), 0.004 * image.height * math.sin(0.7 * turn))
        moved = image.transform(
            image.size, Image.Transform.AFFINE, (1, 0, shift[0], 0, 1, shift[1]), Image.Resampling.BICUBIC
        )
        buffer = io.BytesIO()
        ImageEnhance.Brightness(moved).enhance(1.0 + 0.03 * math.sin(1.3 * turn)).save(buffer, "JPEG", quality=92)
        yield buffer.getvalue()


def _views(client: HeadliftClient, head: str, kind: Any, args: argparse.Namespace) -> dict[str, float]:
    from headlift.client import camera

    with client.live(head=head, format=kind, width=args.size, height=args.size) as session:
        answers = iter(session)

        def request(index: int) -> Any:
            session.send_viewpoint(camera(yaw_deg=30.0 * math.sin(0.1 * index)))
            return _answer(answers)

        request(0)  # the first loads the head into the renderer
        return _measure(request, args.views)


def _reconstructed(
    client: HeadliftClient, frames: list[bytes], kind: Any, args: argparse.Namespace
) -> dict[str, float]:
    with client.live(format=kind, width=args.size, height=args.size) as session:
        answers = iter(session)

        def request(index: int) -> Any:
            session.send_frame(frames[index])
            return _answer(answers)

        return _measure(request, len(frames))


def _heads(client: HeadliftClient, frames: list[bytes]) -> dict[str, Any]:
    """Every frame's head as a delta, and whole; how near the one comes to the other."""
    deltas, sizes, waits = [], [], []
    with client.live(answers="heads") as session:
        answers = iter(session)
        for frame in frames:
            session.send_frame(frame)
            answer = _answer(answers)
            deltas.append(answer.head)
            if not answer.is_keyframe:
                sizes.append(answer.size_bytes)
                waits.append(answer.latency_s * 1e3)
    whole, whole_sizes = _whole(client, frames)
    psnr = [_psnr(a, b) for a, b in zip(deltas[1:], whole[1:], strict=True)]
    return {
        "whole_bytes": statistics.mean(whole_sizes),
        "delta_bytes": statistics.mean(sizes),
        "ratio": statistics.mean(whole_sizes) / statistics.mean(sizes),
        "psnr_db": statistics.mean(psnr),
        "psnr_db_min": min(psnr),
        "p50_ms": _percentile(waits, 50),
        "p95_ms": _percentile(waits, 95),
    }


def _whole(client: HeadliftClient, frames: list[bytes]) -> tuple[list[Gaussians], list[int]]:
    """The same heads, each asked for again as a keyframe."""
    heads, sizes = [], []
    with client.live(answers="heads") as session:
        answers = iter(session)
        for frame in frames:
            session.send_frame(frame)
            _answer(answers)
            session.request_keyframe()
            answer = _answer(answers)
            heads.append(answer.head)
            sizes.append(answer.size_bytes)
    return heads, sizes


def _psnr(head: Gaussians, truth: Gaussians) -> float:
    """dB between the pictures of two heads at 512x512."""
    from headlift.model.cameras import orbit_cameras
    from headlift.model.splat import rasterize

    cameras = orbit_cameras(_YAWS, width=512, height=512)
    error = (rasterize(head, cameras).rgb - rasterize(truth, cameras).rgb).double().square().mean()
    return float(-10.0 * error.clamp_min(1e-12).log10())


def _answer(answers: Iterator[Any]) -> Any:
    """The next view or head; what was refused is raised."""
    from headlift.client import LiveDropped, LiveRefused

    for answer in answers:
        if isinstance(answer, LiveRefused):
            raise answer.error
        if not isinstance(answer, LiveDropped):
            return answer
    raise HeadliftError("The session ended before the measurement did; see the server's log.")


def _measure(request: Callable[[int], Any], count: int) -> dict[str, float]:
    begin = time.perf_counter()
    answers = [request(index) for index in range(count)]
    elapsed = time.perf_counter() - begin
    waits = [answer.latency_s * 1e3 for answer in answers]
    return {
        "p50_ms": _percentile(waits, 50),
        "p95_ms": _percentile(waits, 95),
        "fps": count / elapsed,
        "bytes_per_frame": sum(len(answer.data) for answer in answers) / count,
    }


def _percentile(values: list[float], percent: float) -> float:
    import numpy as np

    return float(np.percentile(values, percent))


def _text(metrics: dict[str, Any]) -> str:
    lines = []
    for name in ("views", "reconstruct"):
        for kind, cell in metrics[name].items():
            lines.append(
                f"{name:12} {kind:5} p50 {cell['p50_ms']:7.1f} ms  p95 {cell['p95_ms']:7.1f} ms  "
                f"{cell['fps']:6.1f} frames/s  {cell['bytes_per_frame'] / 1e3:7.1f} kB/frame"
            )
    heads = metrics["heads"]
    lines.append(
        f"heads        whole {heads['whole_bytes'] / 1e3:.0f} kB, delta {heads['delta_bytes'] / 1e3:.0f} kB "
        f"({heads['ratio']:.1f} times less), {heads['psnr_db']:.1f} dB (at least {heads['psnr_db_min']:.1f})"
    )
    return "\n".join(lines)
