"""live: a small client of live sessions that orbits a head and writes the stream to a file."""

from __future__ import annotations

import argparse
import io
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from headlift.commands.session import Subparsers, add_command, add_server_options, emit, open_client, progress_bar
from headlift.errors import InvalidInputError


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "live", "stream an orbit around a head (H.264) and keep it as a film", live)
    parser.add_argument("head", help="name of the head, or its last part")
    parser.add_argument("--out", required=True, metavar="FILE.mp4")
    parser.add_argument("--frames", type=int, default=120, help="frames of the full circle (default: 120)")
    parser.add_argument("--fps", type=int, default=30, help="of the film; the stream goes as fast as it can")
    parser.add_argument("--size", type=int, default=512, help="side in pixels, even (default: 512)")
    parser.add_argument("--pitch", type=float, default=0.0, metavar="DEG")
    add_server_options(parser)


def live(args: argparse.Namespace) -> int:
    """``headlift live``."""
    with open_client(args) as client:
        metrics, units = _stream_orbit(args, client)
    size = remux(units, Path(args.out), args.fps)
    metrics |= {"out": args.out, "film_bytes": size}
    text = "{frames} frames at {fps:.1f}/s, {p50_ms:.0f} ms each, {bytes_per_frame:.0f} bytes each: {out}"
    emit(args, metrics, text.format(**metrics))
    return 0


def remux(units: list[bytes], path: Path, fps: int) -> int:
    """Put access units (H.264, Annex B) into an MP4 file as they are; its size in bytes."""
    import av

    temporary = path.with_name(f".{path.name}.part.mp4")
    try:
        with (
            av.open(io.BytesIO(b"".join(units)), "r", format="h264") as source,
            av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
        ):
            stream = container.add_stream_from_template(source.streams.video[0])
            packets = (packet for packet in source.demux(video=0) if packet.size)
            for index, packet in enumerate(packets):
                packet.pts, packet.dts, packet.duration = index, index, 1
                packet.time_base, packet.stream = Fraction(1, fps), stream
                container.mux(packet)
        return temporary.replace(path).stat().st_size
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror}.", reason="NO_FILE", field="out") from None
    finally:
        temporary.unlink(missing_ok=True)


def _stream_orbit(args: argparse.Namespace, client: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Metrics of the stream, and its access units."""
    import numpy as np

    from headlift.client import LiveRefused, LiveView, camera

    units: list[bytes] = []
    latencies_ms: list[float] = []
    with (
        client.live(head=args.head, format="h264", width=args.size, height=args.size) as session,
        progress_bar(args, args.frames, Path(args.out).name, "frame") as bar,
    ):
        begin, answers = time.perf_counter(), iter(session)
        while len(units) < args.frames:
            session.send_viewpoint(camera(yaw_deg=360.0 * len(units) / args.frames, pitch_deg=args.pitch))
            # One view is requested at a time: nothing is dropped, and latency is not hidden by a queue.
            answer = next(answers)
            if isinstance(answer, LiveRefused):
                raise answer.error
            if isinstance(answer, LiveView):
                units.append(answer.data)
                latencies_ms.append(answer.latency_s * 1e3)
                bar.update()
        elapsed = time.perf_counter() - begin
    return {
        "frames": len(units),
        "fps": len(units) / elapsed,
        "p50_ms": float(np.percentile(latencies_ms, 50)),
        "p95_ms": float(np.percentile(latencies_ms, 95)),
        "bytes_per_frame": sum(map(len, units)) / len(units),
    }, units
