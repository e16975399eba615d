"""serve: the server in the foreground, with the stages in this process or in Ray."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from headlift.commands.session import Subparsers, add_command, add_network_options, say, settings_of, suited_here
from headlift.errors import StageUnavailableError
from headlift.settings import Settings

if TYPE_CHECKING:
    from headlift.backend.protocol import Backend
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
    from headlift.serving.memory import imports_uncollected, share_arenas

    share_arenas()
    with imports_uncollected():
        from headlift.serving.embedded import EmbeddedServer  # noqa: F401 - with all that _serve uses
        from headlift.serving.runtimes import running
        from headlift.serving.telemetry import run_telemetry

    settings = settings_of(args)
    if not settings.ray_address:
        settings = suited_here(args, settings)
    with run_telemetry(settings) as fetched, running(settings, args.config) as backend:
        if fetched is not None:
            say(args, f"metrics on http://{settings.metrics_host}:{fetched.port}/metrics")
        asyncio.run(_serve(settings, backend, fetched, as_json=args.json))
    return 0


async def _serve(settings: Settings, backend: Backend | None, fetched: MetricsServer | None, *, as_json: bool) -> None:
    from headlift.serving.compose import compose
    from headlift.serving.embedded import EmbeddedServer

    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, leave.set)
    service = compose(settings, backend=backend) if backend is not None else None
    with tempfile.TemporaryDirectory(prefix="headlift-") as folder:  # readable by nobody else
        private = Path(folder) / "grpc.sock" if settings.web else None
        async with EmbeddedServer(settings, service, private_socket=private) as server, AsyncExitStack() as faces:
            told = {"address": server.address, "listening": server.listening}
            line = f"serving on {server.listening} with {server.service.about}; Ctrl-C ends it"
            warnings = [exposure(settings.host, server.listening, settings)]
            if private is not None:
                face = await faces.enter_async_context(_web(settings, server, private))
                told |= {"web": face.url, "web_listening": face.listening}
                line += f"\nthe editor is at {face.url}" + (
                    "" if is_loopback(settings.web_host) else f", listening on {face.listening}"
                )
                warnings.append(exposure(settings.web_host, face.listening, settings))
            print(json.dumps(told) if as_json else line, flush=True)
            for warning in filter(None, warnings):
                print(f"headlift: warning: {warning}", file=sys.stderr, flush=True)
            if fetched is not None:
                fetched.serving = True
            cut_off = asyncio.create_task(_watch(backend))
            asked = asyncio.create_task(leave.wait())
            await asyncio.wait({cut_off, asked}, return_when=asyncio.FIRST_COMPLETED)
            if fetched is not None:
                fetched.serving = False  # before the port closes: whoever balances load looks away first
            cut_off.cancel()
            asked.cancel()
    if not leave.is_set():  # asked to end, it ends well, though Ray may have been ended with it
        raise StageUnavailableError("The Ray node beside this server has ended; start both again.", reason="NODE_LOST")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``, an address or a name to listen on."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # some other name


def exposure(host: str, listening: str, settings: Settings) -> str | None:
    """What is risky about listening on ``host``, with the way out; None where nothing is."""
    lacks = [
        words
        for words, lacking in (
            ("without authentication (--auth keys)", settings.auth == "none"),
            ("in the clear (--tls-cert and --tls-key)", settings.tls_cert is None),
        )
        if lacking
    ]
    if not lacks or is_loopback(host):
        return None
    return f"{listening} serves every machine that can reach this one, {' and '.join(lacks)}"


async def _watch(backend: Backend | None) -> None:
    """Until the stages can never be reached again: only a new process can, and whoever restarts it must know."""
    while backend is None or not await asyncio.to_thread(backend.lost):
        await asyncio.sleep(_WATCH_S)


def _web(settings: Settings, server: EmbeddedServer, private: Path) -> WebServer:
    """The web face."""
    from headlift.commands.demo import has_sample, portrait_bytes
    from headlift.web.server import WebServer

    sample = (lambda: portrait_bytes(None)[1]) if has_sample() else None
    return WebServer(settings, server, private, sample)
