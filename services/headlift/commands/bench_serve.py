"""bench serve: what a call costs in each runtime, under load that does not wait for answers.

Per cell the capacity is found first, with as many calls in flight as the concurrency says. Then calls are started at
four fifths of that rate, evenly, whether or not earlier ones were answered (as many as the concurrency at a time), and
each is timed from when it should have started: a server that stalls cannot hide it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlift.commands.demo import portrait_bytes
from headlift.commands.session import Subparsers, add_command, add_network_options, emit, network_settings, say
from headlift.errors import BackendUnavailableError, ServerError
from headlift.settings import child_environment

if TYPE_CHECKING:
    import grpc
    import psutil

RUNTIMES = {
    "embedded": ("--runtime", "embedded"),
    "ray-fused": ("--runtime", "ray", "--topology", "fused"),
    "ray-split": ("--runtime", "ray", "--topology", "split"),
}
KINDS = ("get", "render", "create")
_SHARE = 0.8  # of the capacity, that calls are started at
_READY_S = 300.0
_LIMIT_S = 120.0  # of one call
_CHANNEL = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]
Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Server:
    """A server that was started for the measurement."""

    address: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU time of all its processes so far."""
        times = [_if_running(p.cpu_times) for p in self.all()]
        return float(sum(t.user + t.system for t in times if t is not None))

    def memory_mb(self) -> dict[str, float]:
        """Memory of its processes by what they are; several of a kind are added up."""
        sizes: dict[str, float] = {}
        for process in self.all():
            parts = _if_running(process.cmdline) or ["?"]
            name = "server" if process.pid == self.process.pid else Path(parts[0].split()[0]).name[:40]
            info = _if_running(process.memory_info)
            sizes[name] = sizes.get(name, 0.0) + (info.rss / 1e6 if info else 0.0)
        return sizes

    def all(self) -> list[psutil.Process]:
        """The server and everything that it started."""
        return [self.process, *self.process.children(recursive=True)]


def register(kinds: Subparsers) -> None:
    """Add the command below ``bench``."""
    parser = add_command(kinds, "serve", "measure calls in each runtime: latency, throughput, CPU, memory", serve)
    parser.add_argument("--runtimes", nargs="+", choices=list(RUNTIMES), default=list(RUNTIMES), metavar="RUNTIME")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32], metavar="N")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load in each cell (default: 4)")
    add_network_options(parser)


def serve(args: argparse.Namespace) -> int:
    """``headlift bench serve``."""
    results: dict[str, dict[str, Any]] = {}
    _, picture = portrait_bytes(None)
    for runtime in args.runtimes:
        say(args, f"{runtime}: starting")
        with started(runtime, network_settings(args)) as server:
            results[runtime] = asyncio.run(_measure(args, server, picture, runtime))
    emit(args, results, _text(results))
    return 0


@contextmanager
def started(runtime: str, network: Mapping[str, str]) -> Iterator[Server]:
    """A server in processes of its own, which caches nothing; ``network`` names its files, see ``network_settings``."""
    import psutil

    with tempfile.TemporaryDirectory(prefix="headlift-bench-") as scratch:
        environ = child_environment(
            cache_stages="no",
            port="0",
            data_dir=scratch,
            create_queue="256",
            render_queue="256",
            log_level="WARNING",
            **network,
        )
        command = [sys.executable, "-m", "headlift.cli", "serve", "--json", *RUNTIMES[runtime]]
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- ourselves
        try:
            yield Server(address_of(process), psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_READY_S)


def address_of(process: subprocess.Popen[str]) -> str:
    """Where a ``headlift serve --json`` listens, once it does.

    Raises:
        BackendUnavailableError: It says that something is missing on this machine.
        ServerError: It ended for another reason.
    """
    line = process.stdout.readline() if process.stdout else ""
    if line.startswith('{"'):
        return str(json.loads(line)["address"])
    if not line or process.stdout is None:
        raise ServerError("The server ended before it was ready; its own message is above.")
    fault = json.loads(line + process.stdout.read())["error"]
    kind = BackendUnavailableError if fault["code"] == BackendUnavailableError.code else ServerError
    raise kind(fault["message"], reason=fault["reason"])


async def _measure(args: argparse.Namespace, server: Server, picture: bytes, runtime: str) -> dict[str, Any]:
    import grpc

    metrics: dict[str, Any] = {}
    async with grpc.aio.insecure_channel(server.address, _CHANNEL) as channel:
        calls = await _calls(channel, picture)
        for kind in args.kinds:
            metrics[kind] = {}
            for concurrency in args.concurrency:
                say(args, f"{runtime}: {kind} x {concurrency}")
                metrics[kind][str(concurrency)] = await measure_cell(calls[kind], concurrency, args.seconds, server)
    metrics["memory_mb"] = server.memory_mb()
    return metrics


async def _calls(channel: grpc.aio.Channel, picture: bytes) -> dict[str, Call]:
    """One call of each kind: a record, a new view of a cached head as JPEG, a portrait without refinement."""
    from headlift.v1 import camera_pb2, head_service_pb2_grpc, picture_pb2
    from headlift.v1 import head_service_pb2 as pb

    stub: Any = head_service_pb2_grpc.HeadServiceStub(channel)
    creation = pb.CreateHeadRequest(parent="tenants/bench", picture=picture, refine_steps=0)
    await channel.channel_ready()
    head = (await stub.CreateHead(creation, timeout=_LIMIT_S)).head.name
    jpeg, turns = picture_pb2.PictureOptions(format=picture_pb2.PICTURE_FORMAT_JPEG), count()

    def render() -> Awaitable[Any]:
        view = camera_pb2.Camera(orbit=camera_pb2.OrbitPose(yaw_deg=next(turns) * 0.37 % 360.0))
        call = stub.RenderHead(pb.RenderHeadRequest(name=head, cameras=[view], picture=jpeg), timeout=_LIMIT_S)
        return call  # type: ignore[no-any-return]

    await render()
    return {
        "get": lambda: stub.GetHead(pb.GetHeadRequest(name=head), timeout=_LIMIT_S),
        "render": render,
        "create": lambda: stub.CreateHead(creation, timeout=_LIMIT_S),
    }


async def measure_cell(call: Call, concurrency: int, seconds: float, server: Server) -> dict[str, float]:
    """Metrics of one kind of call at one concurrency.

    Returns:
        p50_ms, p95_ms, p99_ms (from when a call should have started), rps (capacity), offered_rps, cpu_ms (of all the
        server's processes, per call), failed (calls that were refused or broke).
    """
    import numpy as np

    capacity = await _capacity(call, concurrency, seconds / 2)
    offered = capacity * _SHARE
    cpu_before = server.cpu_s()
    spans, failed = await _offer(call, concurrency, offered, max(seconds, 3 / offered))
    cpu_ms = (server.cpu_s() - cpu_before) * 1e3 / max(len(spans), 1)
    p50, p95, p99 = (float(p) for p in np.percentile(spans or [float("nan")], [50, 95, 99]))
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "rps": capacity,
        "offered_rps": offered,
        "cpu_ms": cpu_ms,
        "failed": failed,
    }


async def _capacity(call: Call, concurrency: int, seconds: float) -> float:
    """Answers a second while ``concurrency`` calls are always in flight."""
    begin, done = time.perf_counter(), 0

    async def caller() -> None:
        nonlocal done
        while not done or time.perf_counter() - begin < seconds:
            await call()
            done += 1

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return done / (time.perf_counter() - begin)


async def _offer(call: Call, concurrency: int, rate: float, seconds: float) -> tuple[list[float], int]:
    """Start calls evenly at ``rate``; milliseconds of each from its due time, and how many failed."""
    import grpc

    spans, failed, slots = list[float](), 0, asyncio.Semaphore(concurrency)

    async def one(due: float) -> None:
        nonlocal failed
        async with slots:
            try:
                await call()
                spans.append((time.perf_counter() - due) * 1e3)
            except grpc.aio.AioRpcError:
                failed += 1

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for i in range(max(3, int(rate * seconds))):
            due = begin + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    return spans, failed


def _text(results: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':24}{'p50':>9}{'p95':>9}{'p99':>9} ms{'rate':>9}/s{'CPU':>9} ms{'failed':>8}"]
    for runtime, kinds in results.items():
        for kind in (k for k in KINDS if k in kinds):
            for concurrency, f in kinds[kind].items():
                lines.append(
                    f"{runtime:10} {kind:7} {concurrency:>4} {f['p50_ms']:9.1f}{f['p95_ms']:9.1f}{f['p99_ms']:9.1f}   "
                    f"{f['rps']:9.1f}  {f['cpu_ms']:9.1f}   {f['failed']:8.0f}"
                )
        memory = ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(kinds["memory_mb"].items(), key=lambda i: -i[1]))
        lines.append(f"{runtime:10} MB: {memory}")
    return "\n".join(lines)


def _if_running(query: Callable[[], Any]) -> Any:
    """What ``query`` gives; None where the process has ended since it was listed."""
    import psutil

    try:
        return query()
    except psutil.Error:
        return None
