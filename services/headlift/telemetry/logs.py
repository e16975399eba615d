"""Log lines with the call that they belong to: JSON for machines, text for terminals."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import uuid
from datetime import UTC, datetime
from typing import Any, TextIO

from headlift.telemetry.rpc import CALL_ID
from headlift.telemetry.tracing import trace_id

MESSAGE_CHARS_MAX = 4096  # a JSON line without a stack stays below 16 KiB, where container runtimes split lines
FIELDS = ("method", "code", "ms", "tenant", "reason")  # of ``extra``, as they go into a JSON line
_HIDDEN = "(hidden)"
_SECRETS = (
    (re.compile(r"hlk_[\w-]+"), _HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"://[^/\s@]+@"), f"://{_HIDDEN}@"),
    (
        re.compile(r"(?i)\b(password|secret\w*|api[_-]?key|x-api-key|token)(['\"]?\s*[=:]\s*['\"]?)[^\s'\",;]+"),
        rf"\1\2{_HIDDEN}",
    ),
)


class _Lines(logging.Formatter):
    def message_of(self, record: logging.LogRecord) -> str:
        """The message, without secrets or picture bytes."""
        args = record.args
        if isinstance(args, tuple):
            args = tuple(map(_sized, args))
        text = str(record.msg) % args if args else str(record.msg)
        return clean(text)[:MESSAGE_CHARS_MAX]

    def fault_of(self, record: logging.LogRecord) -> tuple[str, str]:
        """The id under which a fault can be found again, and its stack; both empty where there is none."""
        if not record.exc_info or record.exc_info[0] is None:
            return "", ""
        return call_of(record) or uuid.uuid4().hex, clean(self.formatException(record.exc_info))


class JsonLines(_Lines):
    """One JSON object a line: time, level, logger, message, and what is known of the call."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.message_of(record),
        }
        extra = {name: getattr(record, name, "") for name in FIELDS}
        line |= {"call_id": call_of(record), "trace_id": trace_of(record), **extra}
        line["error_id"], line["stack"] = self.fault_of(record)
        return json.dumps({k: v for k, v in line.items() if v != ""}, ensure_ascii=False, default=str)


class TextLines(_Lines):
    """For a person: one line, and the stack of a fault below it."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        message, call_id = self.message_of(record), call_of(record)
        error_id, stack = self.fault_of(record)
        named = f" call={call_id}" if call_id and call_id not in message else ""
        named += f" error={error_id}" if error_id and error_id != call_id else ""
        return f"{when} {record.levelname:7} {record.name} {message}{named}" + (f"\n{stack}" if stack else "")


def start_logging(level: str, form: str, stream: TextIO | None = None) -> logging.Handler:
    """Send every log line of this process to ``stream`` (stderr), in place of where they went.

    Uncaught errors, on any thread, become log lines too.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: ``text`` or ``json``.
        stream: Where to.
    """
    handler = logging.StreamHandler(stream)
    handler.addFilter(_stamp)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    sys.excepthook = lambda kind, error, trace: _uncaught(kind, error, trace, "the process")
    threading.excepthook = lambda args: _uncaught(
        args.exc_type, args.exc_value, args.exc_traceback, f"the thread {args.thread.name if args.thread else '?'}"
    )
    return handler


def clean(text: str) -> str:
    """``text`` without what looks like a credential."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def call_of(record: logging.LogRecord) -> str:
    """The id of the call that a record belongs to; empty outside of calls."""
    return str(getattr(record, "call_id", "") or CALL_ID.get())


def trace_of(record: logging.LogRecord) -> str:
    """The id of the trace that a record belongs to; empty where nothing is traced."""
    return str(getattr(record, "trace_id", "") or trace_id())


def _stamp(record: logging.LogRecord) -> bool:
    # Here, not while formatting: a handler with a queue formats on another thread, outside of the call's context.
    record.call_id, record.trace_id = call_of(record), trace_of(record)
    return True


def _sized(value: object) -> object:
    return f"<{len(value)} bytes>" if isinstance(value, (bytes, bytearray, memoryview)) else value


def _uncaught(kind: Any, error: Any, trace: Any, where: str) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("headlift.uncaught").critical("an uncaught error ended %s", where, exc_info=(kind, error, trace))
