"""What commands share: a client on a server given or started here, output for people and machines, progress."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headlift.settings import Settings

if TYPE_CHECKING:
    from tqdm import tqdm

    from headlift.client import HeadliftClient
    from headlift.v1 import head_pb2

NO_TLS: dict[str, Any] = {"tls_cert": None, "tls_key": None, "tls_client_ca": None}  # nobody else can reach it
_PATHS = ("data_dir", "weights", "backbone_weights", "tls_cert", "tls_key", "tls_client_ca", "keys_file", "server_ca")
_EDGE = ("tls_cert", "tls_key", "tls_client_ca", "auth", "keys_file", "server_ca")
_RUNTIME = ("runtime", "topology", "ray_address")
_WEB = ("web", "web_host", "web_port")
_TELEMETRY = ("metrics_port", "metrics_host", "log_format", "otlp_endpoint")
Command = Callable[[argparse.Namespace], int]
Subparsers = Any  # argparse keeps the type of its subparsers to itself


def add_command(subparsers: Subparsers, name: str, about: str, run: Command) -> argparse.ArgumentParser:
    """A subcommand with ``--json``; ``run`` gets the arguments and returns the exit code."""
    parser: argparse.ArgumentParser = subparsers.add_parser(name, help=about, description=about)
    parser.add_argument("--json", action="store_true", help="print one JSON object for machines instead of text")
    parser.set_defaults(run=run)
    return parser


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Options of commands that talk to a server."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--server", metavar="HOST:PORT", help="use this server; without it one is started for the command"
    )
    group.add_argument("--server-ca", metavar="FILE", help="talk TLS, trusting who signed with this certificate")
    group.add_argument("--tenant", help="act for this tenant (default: local)")
    group.add_argument("--data-dir", metavar="DIR", help="where the started server keeps its heads")
    add_network_options(group)


def add_network_options(group: Any) -> None:
    """Options that name the network's files; ``group`` is a parser or a part of one."""
    group.add_argument("--weights", metavar="FILE", help="checkpoint (default: the shipped mini)")
    group.add_argument(
        "--backbone",
        dest="backbone_weights",
        metavar="FILE",
        help="DINOv2's file, for checkpoints that read it: base, light, light_s",
    )


def network_settings(args: argparse.Namespace) -> dict[str, str]:
    """What these options set, by field name, for ``child_environment``."""
    given = {name: getattr(args, name) for name in ("weights", "backbone_weights")}
    return {name: file for name, file in given.items() if file}


def settings_of(args: argparse.Namespace, **overrides: Any) -> Settings:
    """Settings from the environment and the command's options."""
    names = (
        "server",
        "tenant",
        "data_dir",
        "weights",
        "backbone_weights",
        "host",
        "port",
        *_EDGE,
        *_RUNTIME,
        *_TELEMETRY,
        *_WEB,
    )
    given = {k: getattr(args, k) for k in names if getattr(args, k, None) is not None}
    return Settings.from_env(**_as_paths(given | overrides))


def suited_here(args: argparse.Namespace, settings: Settings) -> Settings:
    """``settings`` that suit what draws on this machine; one line says where that is slow, and the way out."""
    from headlift.serving.suiting import slow_because, suited

    if why := slow_because(settings):
        say(args, f"drawing with the slow torch rasteriser, without refinement where nobody asks for it. {why}")
        warnings.filterwarnings("ignore", "Drawing with the slow torch rasteriser", RuntimeWarning)  # it is said
    return suited(settings)


@contextmanager
def open_client(args: argparse.Namespace, **overrides: Any) -> Iterator[HeadliftClient]:
    """A client on ``--server``, or on a server that lives as long as the block."""
    # Imported here: a client of another machine need not load torch.
    from headlift.client import Credentials, HeadliftClient

    settings = settings_of(args, **overrides)
    if settings.server:
        credentials = Credentials(
            api_key=settings.api_key,
            tls=settings.server_tls,
            ca=settings.server_ca,
            cert=settings.client_cert,
            key=settings.client_key,
        )
        with HeadliftClient(
            settings.server, tenant=settings.tenant, timeout_s=settings.timeout_s, credentials=credentials
        ) as client:
            yield client
        return
    from dataclasses import replace

    from headlift.serving.memory import imports_uncollected

    with imports_uncollected():
        from headlift.serving.background import BackgroundServer

    settings = suited_here(args, settings)
    with (
        BackgroundServer(replace(settings, host="127.0.0.1", port=0, auth="none", **NO_TLS)) as server,
        HeadliftClient(server.address, tenant=settings.tenant, timeout_s=settings.timeout_s) as client,
    ):
        yield client


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Raises KeyboardInterrupt at once, and again whenever the function that it yields is called.

    Python swallows exceptions in destructors and callbacks; a KeyboardInterrupt that falls into one of these would
    leave a long command running to its end.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield lambda: None
        return

    def interrupt(number: int, frame: object) -> None:
        asked.set()
        raise KeyboardInterrupt

    def check() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def emit(args: argparse.Namespace, data: Mapping[str, Any], text: str) -> None:
    """Print ``data`` with ``--json``, else ``text``."""
    print(json.dumps(data, indent=1) if args.json else text)


def say(args: argparse.Namespace, text: str) -> None:
    """Tell a person what happens now; on stderr, so that output stays clean."""
    if not args.json:
        print(text, file=sys.stderr, flush=True)


def progress_bar(args: argparse.Namespace, total: int, what: str, unit: str) -> tqdm[Any]:
    """A progress bar on stderr; silent with ``--json`` or where stderr is no terminal."""
    from tqdm import tqdm

    disable = args.json or not sys.stderr.isatty()
    return tqdm(
        total=total, desc=what, unit=unit, unit_scale=unit == "B", file=sys.stderr, disable=disable, leave=False
    )


def head_dict(head: head_pb2.Head) -> dict[str, Any]:
    """A head's record for machines, with the contract's field names."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(head, preserving_proto_field_name=True)


def head_text(head: head_pb2.Head) -> str:
    """A head's record for people."""
    stages = ", ".join(f"{t.stage} {'cached' if t.cached else f'{t.duration_ms:.0f} ms'}" for t in head.stage_timings)
    lines = [
        head.name or "(not stored)",
        f"  {head.gaussian_count} Gaussians, {head.refine_steps} refinement steps, {head.size_bytes} bytes stored",
        f"  quality {head.quality.score:.2f}{''.join(f'; {m}' for m in head.quality.reasons)}",
        f"  {stages}",
    ]
    return "\n".join(lines)


def _as_paths(values: dict[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    return {k: Path(v).expanduser() if k in _PATHS and v is not None else v for k, v in values.items()}
