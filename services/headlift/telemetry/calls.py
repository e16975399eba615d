"""One RPC as telemetry sees it: its id in every log line, its span, its count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry.trace import Span, SpanKind

from headlift.telemetry import tracing
from headlift.telemetry.metrics import metrics

# The id of the call that is being served, which log lines carry; empty outside of calls.
CALL_ID: ContextVar[str] = ContextVar("call_id", default="")


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        code: Name of its gRPC status.
        reason: Stable name of what went wrong, see ``HeadliftError.reason``; empty where nothing did.
        limit: Name of the tenant's limit that refused it; empty where none did.
    """

    code: str
    reason: str = ""
    limit: str = ""


class Call:
    """A call under way."""

    def __init__(self, method: str, span: Span) -> None:
        self._method, self._span = method, span

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Note how it ended, and how long it took."""
        observe_call(self._method, outcome, seconds)
        self._span.set_attribute("rpc.grpc.status", outcome.code)
        if outcome.code != "OK":
            tracing.fail(self._span, outcome.reason or outcome.code)


@contextmanager
def call(method: str, call_id: str, metadata: Mapping[str, str]) -> Iterator[Call]:
    """A call is served in the block; whoever serves it says ``ended`` once.

    Args:
        method: /package.Service/Method.
        call_id: Names the call.
        metadata: What came with it, keys in lower case; its traceparent is followed.
    """
    name = short(method)
    running = metrics().requests_running
    token = CALL_ID.set(call_id)
    running.move(1, method=name)
    try:
        attributes = {"rpc.system": "grpc", "rpc.method": name, "headlift.call_id": call_id}
        with tracing.extract(metadata), tracing.plain_span(name, SpanKind.SERVER, attributes) as opened:
            yield Call(name, opened)
    finally:
        running.move(-1, method=name)
        CALL_ID.reset(token)


def observe_call(method: str, outcome: Outcome, seconds: float) -> None:
    """Count a call that has ended; ``method`` as ``short`` gives it."""
    seen = metrics()
    seen.requests.add(method=method, code=outcome.code)
    seen.request_seconds.see(seconds, method=method)
    if outcome.code != "OK":
        seen.errors.add(reason=outcome.reason or outcome.code)
    if outcome.limit:
        seen.quota_refusals.add(limit=outcome.limit)


def short(method: str) -> str:
    """Service/Method of /package.Service/Method."""
    package_service, _, name = method.strip("/").rpartition("/")
    return f"{package_service.rpartition('.')[2]}/{name}"
