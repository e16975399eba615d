"""bench: how fast this machine splats, and how fast it serves a portrait."""

from __future__ import annotations

import argparse
import importlib.metadata
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headlift.commands import bench_batch, bench_live, bench_serve
from headlift.commands.demo import portrait_bytes
from headlift.commands.session import (
    NO_TLS,
    Subparsers,
    add_command,
    add_network_options,
    emit,
    network_settings,
    say,
    settings_of,
)
from headlift.settings import Settings, child_environment

GROUP = "headlift.bench"  # entry points of other packages' benches: functions that add to the subparsers given
_READY_LIMIT_S = 120.0


def register(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = subparsers.add_parser("bench", help="measure this machine", description="measure this machine")
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    add_command(kinds, "splat", "time the rasteriser: 65,536 Gaussians at 512x512", splat)
    served = add_command(
        kinds, "portrait", "time the server: start, reconstruct, cached view; and its memory", portrait
    )
    served.add_argument("portrait", nargs="?", help="picture file (default: the astronaut that scikit-image carries)")
    served.add_argument("--repeats", type=int, default=5, help="of which the fastest counts (default: 5)")
    add_network_options(served)
    bench_serve.register(kinds)
    bench_batch.register(kinds)
    bench_live.register(kinds)
    for entry in importlib.metadata.entry_points(group=GROUP):
        entry.load()(kinds)


def splat(args: argparse.Namespace) -> int:
    """``headlift bench splat``."""
    from headlift.commands.bench_splat import bench_splat

    say(args, "splatting; the oracle takes a few seconds")
    emit_metrics(args, bench_splat())
    return 0


def portrait(args: argparse.Namespace) -> int:
    """``headlift bench portrait``: a fresh server process, seen from outside."""
    name, picture = portrait_bytes(args.portrait)
    say(args, f"{name}: a fresh server, {args.repeats} repeats")
    with tempfile.TemporaryDirectory(prefix="headlift-bench-") as scratch:
        metrics = bench_portrait(picture, args.repeats, Path(scratch), network_settings(args))
        metrics["passes"] = passes_of(picture, settings_of(args, data_dir=Path(scratch)))
        emit_metrics(args, metrics)
    return 0


def bench_portrait(
    picture: bytes, repeats: int, scratch: Path, network: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Metrics of a fresh server; ``network`` is as ``network_settings`` gives it.

    Returns:
        reconstruct_ms (bytes to stored head over loopback, no refinement, nothing cached), refined_ms (the same with
        the default refinement), render_ms (cached 512x512 view with sharpening, JPEG, over loopback), ready_s (start
        of the process to health SERVING), peak_rss_mb (of the server, over everything), splat_forward_ms (65,536
        Gaussians at 512x512 in this process, to compare machines and moments by).
    """
    import psutil

    from headlift.client import HeadliftClient, camera
    from headlift.commands.bench_splat import splat_forward_ms

    begin = time.perf_counter()
    server = _start(scratch, network or {})
    try:
        address = bench_serve.address_of(server)
        with HeadliftClient(address) as client:
            client.wait_until_serving(_READY_LIMIT_S)
            ready_s = time.perf_counter() - begin
            reconstruct_ms = min(_create_ms(client, picture, 0) for _ in range(repeats))
            refined_ms = _create_ms(client, picture, None)
            head = client.create_head(picture, refine_steps=0)
            views = [camera(yaw_deg=float(i)) for i in range(4 * repeats)]
            render_ms = min(_timed_ms(lambda v=view: client.render(head, [v], format="jpeg")) for view in views)
            splat_ms = splat_forward_ms()
        peak = psutil.Process(server.pid).memory_info()
        return {
            "reconstruct_ms": reconstruct_ms,
            "refined_ms": refined_ms,
            "render_ms": render_ms,
            "ready_s": ready_s,
            "peak_rss_mb": _peak_mb(server.pid, peak.rss),
            "splat_forward_ms": splat_ms,
            "cpu_count": psutil.cpu_count(),
        }
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def passes_of(picture: bytes, settings: Settings) -> dict[str, int]:
    """Network passes and fits of one CreateHead without refinement, by name; in a server in this process."""
    from headlift.client import HeadliftClient
    from headlift.model.passes import counted_passes
    from headlift.serving.background import BackgroundServer

    alone = replace(settings, host="127.0.0.1", port=0, auth="none", cache_stages=False, **NO_TLS)
    with BackgroundServer(alone) as server, HeadliftClient(server.address, timeout_s=_READY_LIMIT_S) as client:
        with counted_passes() as passes:
            client.create_head(picture, refine_steps=0)
        return passes


def emit_metrics(args: argparse.Namespace, metrics: dict[str, Any]) -> None:
    """Print named numbers."""
    emit(args, metrics, "\n".join(f"{name:24} {_shown(value)}" for name, value in metrics.items()))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _start(scratch: Path, network: Mapping[str, str]) -> subprocess.Popen[str]:
    # Without the stage cache: every reconstruction computes.
    environ = child_environment(cache_stages="no", port="0", data_dir=str(scratch), **network)
    command = [sys.executable, "-m", "headlift.cli", "serve", "--json"]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- ourselves


def _create_ms(client: Any, picture: bytes, refine_steps: int | None) -> float:
    return _timed_ms(lambda: client.create_head(picture, refine_steps=refine_steps))


def _timed_ms(action: Any) -> float:
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1e3


def _peak_mb(pid: int, now_bytes: int) -> float:
    """Largest memory that a process had, MB; what it has now where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return now_bytes / 1e6
    return next(
        (int(line.split()[1]) * 1024 / 1e6 for line in status.splitlines() if line.startswith("VmHWM")), now_bytes / 1e6
    )
