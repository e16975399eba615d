"""top: what a server does right now, from its metrics."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from headlift.commands.session import Subparsers, add_command
from headlift.errors import FormatError, InvalidInputError, StoreError

if TYPE_CHECKING:
    from headlift.telemetry.scrape import Scrape, ScrapeDelta

_URL = "http://127.0.0.1:9464/metrics"
_BYTES_MAX = 16 << 20
_WAIT_S = 5.0
_HOME, _CLEAR_BELOW, _CLEAR_LINE = "\x1b[H", "\x1b[J", "\x1b[K"
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, without a cursor
Rows = list[dict[str, Any]]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "top", "watch a server: requests, stages, queues, caches, memory", top)
    parser.add_argument("--metrics", metavar="URL", default=_URL, help=f"metrics of the server (default: {_URL})")
    parser.add_argument("--once", action="store_true", help="print the metrics since the server's start, and end")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds between two samples (default: 1)"
    )


def top(args: argparse.Namespace) -> int:
    """``headlift top``: until Ctrl-C; with ``--json`` one object a sample."""
    from headlift.telemetry.scrape import ScrapeDelta

    if not args.interval >= 0.1:
        raise InvalidInputError(f"--interval is {args.interval}; it must be 0.1 seconds or more.")
    now = fetch(args.metrics)
    if args.once:
        _print(args, ScrapeDelta(now.start, now))
        return 0
    on_screen = not args.json and sys.stdout.isatty()
    sys.stdout.write(_ENTER if on_screen else "")
    try:
        change = ScrapeDelta(now.start, now)
        while True:
            _draw(args, change) if on_screen else _print(args, change)
            time.sleep(args.interval)
            change = ScrapeDelta(change.now, fetch(args.metrics))
    except KeyboardInterrupt:
        return 0
    finally:
        sys.stdout.write(_LEAVE if on_screen else "")


def fetch(url: str) -> Scrape:
    """The metrics at ``url``.

    Raises:
        InvalidInputError: It is no address.
        StoreError: Nobody answers there.
        FormatError: What answers is something else.
    """
    import urllib.request

    from headlift.telemetry.scrape import Scrape

    if not url.startswith(("http://", "https://")):
        raise InvalidInputError(f"{url!r} is no address; write http://HOST:PORT/metrics.")
    try:
        with urllib.request.urlopen(url, timeout=_WAIT_S) as answer:  # noqa: S310 -- checked above
            data = answer.read(_BYTES_MAX)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise StoreError(
            f"{url} does not answer ({reason}); start the server with --metrics-port, or name it with --metrics.",
            reason="NO_METRICS",
        ) from None
    try:
        return Scrape.parse(data.decode(), time.time())
    except UnicodeDecodeError:
        raise FormatError(f"{url} answers with no text; is the address right?") from None


def summarize(change: ScrapeDelta) -> dict[str, Any]:
    """Everything that is printed, for machines: rates a second, times in ms, None where nothing was measured."""
    now = change.now
    return {
        "build": next(iter(now.labels("build_info")), {}),
        "seconds": round(change.seconds, 3),
        "methods": [_method(change, name) for name in now.values("requests_running", "method")],
        "stages": [_stage(change, name) for name in now.values("stage_seconds_count", "stage")],
        "queues": [_queue(change, name) for name in now.values("queue_running", "pool")],
        "caches": [_cache(change, name) for name in now.values("cache_reads_total", "tier")],
        "live": _live(change),
        "errors": {
            reason: change.grown("errors_total", reason=reason) for reason in now.values("errors_total", "reason")
        },
        "memory": {
            "resident_bytes": sum(now.samples.get("process_resident_memory_bytes", {}).values()),
            "gpus": [_gpu(change, name) for name in now.values("gpu_memory_total_bytes", "device")],
        },
    }


def text(summary: dict[str, Any]) -> str:
    """The same for a person."""
    build, memory, live = summary["build"], summary["memory"], summary["live"]
    gpus = "".join(f"  {g['device']} {_bytes(g['used'])} of {_bytes(g['total'])}" for g in memory["gpus"])
    failed = {reason: count for reason, count in summary["errors"].items() if count}
    about = f"{build.get('config', '?')} {build.get('weights_hash', '')} {build.get('runtime', '')}"
    parts = [
        f"headlift {build.get('version', '?')}  {about}  over {summary['seconds']:.1f} s",
        f"memory {_bytes(memory['resident_bytes'])}{gpus}",
        f"live {live['sessions']} sessions, {live['sent_s']:.1f} answers/s, {_bytes(live['bytes_s'])}/s, "
        f"{live['dropped_s']:.1f} dropped/s",
        _table(("METHOD", "req/s", "err/s", "running", "p50 ms", "p95 ms"), summary["methods"]),
        _table(("STAGE", "runs/s", "cached", "p50 ms", "p95 ms"), summary["stages"]),
        _table(("QUEUE", "running", "waiting", "capacity", "refused/s", "p95 wait ms"), summary["queues"]),
        _table(("STORE", "reads/s", "hit ratio", "corrupt", "read/s", "written/s", "skipped"), summary["caches"]),
    ]
    if failed:
        parts.append("failed: " + ", ".join(f"{count:.0f} {reason}" for reason, count in failed.items()))
    return "\n".join(parts)


def _method(change: ScrapeDelta, name: str) -> dict[str, Any]:
    asked, good = change.grown("requests_total", method=name), change.grown("requests_total", method=name, code="OK")
    return {
        "method": name,
        "requests_s": asked / change.seconds,
        "errors_s": (asked - good) / change.seconds,
        "running": int(change.now.total("requests_running", method=name)),
        **_times(change, "request_seconds", method=name),
    }


def _stage(change: ScrapeDelta, name: str) -> dict[str, Any]:
    count = change.grown("stage_seconds_count", stage=name)
    cached = change.grown("stage_seconds_count", stage=name, cached="true")
    return {
        "stage": name,
        "runs_s": count / change.seconds,
        "cached_ratio": cached / count if count else None,
        **_times(change, "stage_seconds", stage=name, cached="false"),
    }


def _queue(change: ScrapeDelta, name: str) -> dict[str, Any]:
    now = change.now
    return {
        "pool": name,
        "running": int(now.total("queue_running", pool=name)),
        "waiting": int(now.total("queue_depth", pool=name)),
        "capacity": int(now.total("queue_capacity", pool=name)),
        "refused_s": change.rate("queue_refusals_total", pool=name),
        "wait_p95_ms": _times(change, "queue_wait_seconds", pool=name)["p95_ms"],
    }


def _cache(change: ScrapeDelta, name: str) -> dict[str, Any]:
    count = {o: change.grown("cache_reads_total", tier=name, outcome=o) for o in ("hit", "miss", "corrupt")}
    asked = count["hit"] + count["miss"]
    return {
        "tier": name,
        "reads_s": asked / change.seconds,
        "hit_ratio": count["hit"] / asked if asked else None,
        "corrupt": int(count["corrupt"]),
        "read_bytes_s": change.rate("blob_read_bytes_total", tier=name),
        "written_bytes_s": change.rate("blob_written_bytes_total", tier=name),
        "skipped": bool(change.now.total("breaker_open", tier=name)),
    }


def _live(change: ScrapeDelta) -> dict[str, Any]:
    return {
        "sessions": int(change.now.total("live_sessions")),
        "sent_s": change.rate("live_sent_total"),
        "bytes_s": change.rate("live_sent_bytes_total"),
        "dropped_s": change.rate("live_dropped_total"),
    }


def _gpu(change: ScrapeDelta, name: str) -> dict[str, Any]:
    used = change.now.total("gpu_memory_used_bytes", device=name)
    return {"device": name, "used": used, "total": change.now.total("gpu_memory_total_bytes", device=name)}


def _times(change: ScrapeDelta, name: str, **match: str) -> dict[str, float | None]:
    found = {f"p{round(q * 100)}_ms": change.quantile(q, name, **match) for q in (0.5, 0.95)}
    return {key: None if seconds is None else seconds * 1e3 for key, seconds in found.items()}


def _table(heads: Sequence[str], rows: Rows) -> str:
    lines = [heads, *([_cell(key, value) for key, value in row.items()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n" + "\n".join(_line(cells, widths) for cells in lines)


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_ratio"):
        return f"{value:.0%}"
    if "bytes" in key:
        return _bytes(value)
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _print(args: argparse.Namespace, change: ScrapeDelta) -> None:
    summary = summarize(change)
    print(json.dumps(summary) if args.json else text(summary), flush=True)


def _draw(args: argparse.Namespace, change: ScrapeDelta) -> None:
    lines = f"{args.metrics}  (Ctrl-C ends it)\n{text(summarize(change))}".split("\n")
    sys.stdout.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW)
    sys.stdout.flush()
