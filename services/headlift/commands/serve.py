"""serve: the server in the foreground, with the stages in this process or in Ray."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from headlift.commands.session import Subparsers, add_command, add_network_options, say, settings_of
from headlift.errors import InvalidInputError, StageUnavailableError
from headlift.settings import Settings

if TYPE_CHECKING:
    from headlift.serving.compose import Computing
    from headlift.serving.embedded import EmbeddedServer
    from headlift.telemetry.exposition import MetricsServer
    from headlift.web.server import WebServer

_WATCH_S = 5.0


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "serve", "serve the public gRPC API from this process", serve)
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default: 50051)")
    parser.add_argument("--data-dir", metavar="DIR", help="where heads are kept")
    add_network_options(parser)
    seeing = parser.add_argument_group("seeing it")
    seeing.add_argument("--metrics-port", type=int, help="serve Prometheus metrics over HTTP here; 0: not (default)")
    seeing.add_argument("--metrics-host", help="address of that port (default: 127.0.0.1)")
    seeing.add_argument("--log-format", choices=("text", "json"), help="form of log lines (default: text)")
    seeing.add_argument("--otlp-endpoint", metavar="URL", help="send traces to this OTLP collector, gRPC")
    web = parser.add_argument_group("web")
    web.add_argument("--web", action="store_true", default=None, help="serve the editor over HTTP too")
    web.add_argument("--web-port", type=int, help="port of the editor; 0 takes a free one (default: 8080)")
    web.add_argument("--web-host", help="address of the editor (default: 127.0.0.1)")
    where = parser.add_argument_group("runtime")
    where.add_argument("--runtime", choices=("embedded", "ray"), help="where stages run (default: embedded)")
    where.add_argument("--topology", choices=("fused", "split"), help="deployments in Ray: 3 or 5 (default: fused)")
    where.add_argument("--config", metavar="FILE", type=Path, help="Ray Serve configuration, as the cloud takes it")
    where.add_argument("--ray-address", metavar="ADDRESS", help="use this cluster's application (default: start one)")
    edge = parser.add_argument_group("edge")
    edge.add_argument("--tls-cert", metavar="FILE", help="serve TLS with this certificate chain, PEM")
    edge.add_argument("--tls-key", metavar="FILE", help="its private key, PEM")
    edge.add_argument("--tls-client-ca", metavar="FILE", help="ask callers for a certificate signed by this (mTLS)")
    edge.add_argument("--auth", choices=("none", "keys", "jwt", "both"), help="credentials to ask for (default: none)")
    edge.add_argument("--keys-file", metavar="FILE", help="API keys, see `headlift keys`")


def serve(args: argparse.Namespace) -> int:
    """``headlift serve``: until SIGINT or SIGTERM, then drain."""
    from headlift.serving.runtimes import running
    from headlift.serving.telemetry import run_telemetry

    settings = settings_of(args)
    with run_telemetry(settings) as fetched, running(settings, args.config) as computing:
        if fetched is not None:
            say(args, f"metrics on http://{settings.metrics_host}:{fetched.port}/metrics")
        asyncio.run(_serve(settings, computing, fetched, as_json=args.json))
    return 0


async def _serve(
    settings: Settings, computing: Computing | None, fetched: MetricsServer | None, *, as_json: bool
) -> None:
    from headlift.serving.compose import compose
    from headlift.serving.embedded import EmbeddedServer

    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, leave.set)
    service = compose(settings, computing=computing) if computing is not None else None
    with tempfile.TemporaryDirectory(prefix="headlift-") as folder:  # readable by nobody else
        private = Path(folder) / "grpc.sock" if settings.web else None
        async with EmbeddedServer(settings, service, private_socket=private) as server, AsyncExitStack() as faces:
            told = {"address": server.address}
            line = f"serving on {server.address} with {server.service.about}; Ctrl-C ends it"
            if private is not None:
                told["web"] = (await faces.enter_async_context(_web(settings, server, private))).url
                line += f"\nthe editor is at {told['web']}"
            print(json.dumps(told) if as_json else line, flush=True)
            if fetched is not None:
                fetched.serving = True
            cut_off = asyncio.create_task(_watch(computing))
            asked = asyncio.create_task(leave.wait())
            await asyncio.wait({cut_off, asked}, return_when=asyncio.FIRST_COMPLETED)
            if fetched is not None:
                fetched.serving = False  # before the port closes: whoever balances load looks away first
            cut_off.cancel()
            asked.cancel()
    if not leave.is_set():  # asked to end, it ends well, though Ray may have been ended with it
        raise StageUnavailableError("The Ray node beside this server has ended; start both again.", reason="NODE_LOST")


async def _watch(computing: Computing | None) -> None:
    """Until the stages can never be reached again: only a new process can, and whoever restarts it must know."""
    while computing is None or not await asyncio.to_thread(computing.lost):
        await asyncio.sleep(_WATCH_S)


def _web(settings: Settings, server: EmbeddedServer, private: Path) -> WebServer:
    """The web face. InvalidInputError: what it needs is not installed."""
    try:
        from headlift.web.server import WebServer
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"The editor needs {error.name}: pip install 'headlift[web]'.", field="web") from None
    from headlift.commands.demo import has_sample, portrait_bytes

    sample = (lambda: portrait_bytes(None)[1]) if has_sample() else None
    return WebServer(settings, server, private, sample)
