"""serve: the embedded server in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal

from headlift.commands.session import Subparsers, add_command, settings_of


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "serve", "serve the public gRPC API from this process", serve)
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default: 50051)")
    parser.add_argument("--data-dir", metavar="DIR", help="where heads are kept")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint (default: the shipped mini)")


def serve(args: argparse.Namespace) -> int:
    """``headlift serve``: until SIGINT or SIGTERM, then drain."""
    settings = settings_of(args)
    logging.getLogger().setLevel(settings.log_level)
    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    from headlift.serving.embedded import EmbeddedServer

    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, leave.set)
    async with EmbeddedServer(settings_of(args)) as server:
        line = f"serving on {server.address} with {server.service.about}; Ctrl-C ends it"
        print(json.dumps({"address": server.address}) if args.json else line, flush=True)
        await leave.wait()
