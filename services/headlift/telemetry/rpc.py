"""One RPC in telemetry: its id in every log line, its span, its counts."""

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
class RpcOutcome:
    """How a call ended.

    Attributes:
        code: Name of its gRPC status.
        reason: Stable name of the error, see ``HeadliftError.reason``; empty without one.
        limit: Name of the tenant's limit that refused it; empty where none did.
    """

    code: str
    reason: str = ""
    limit: str = ""


class RpcSpan:
    """A call under way."""

    def __init__(self, method: str, span: Span) -> None:
        self._method, self._span = method, span

    def end(self, outcome: RpcOutcome, seconds: float) -> None:
        """Record how it ended, and how long it took."""
        count_rpc(self._method, outcome, seconds)
        self._span.set_attribute("rpc.grpc.status", outcome.code)
        if outcome.code != "OK":
            tracing.fail(self._span, outcome.reason or outcome.code)


@contextmanager
def rpc_span(method: str, call_id: str, metadata: Mapping[str, str]) -> Iterator[RpcSpan]:
    """Serve a call in the block, which calls ``end`` once.

    Args:
        method: /package.Service/Method.
        call_id: Names the call.
        metadata: What came with it, keys in lower case; its traceparent is followed.
    """
    name = short_method(method)
    running = metrics().requests_running
    token = CALL_ID.set(call_id)
    running.inc(method=name)
    try:
        attributes = {"rpc.system": "grpc", "rpc.method": name, "headlift.call_id": call_id}
        with tracing.extract(metadata), tracing.plain_span(name, SpanKind.SERVER, attributes) as opened:
            yield RpcSpan(name, opened)
    finally:
        running.dec(method=name)
        CALL_ID.reset(token)


def count_rpc(method: str, outcome: RpcOutcome, seconds: float) -> None:
    """Count a call that has ended; ``method`` as ``short_method`` gives it."""
    current = metrics()
    current.requests.inc(method=method, code=outcome.code)
    current.request_seconds.observe(seconds, method=method)
    if outcome.code != "OK":
        current.errors.inc(reason=outcome.reason or outcome.code)
    if outcome.limit:
        current.quota_refusals.inc(limit=outcome.limit)


def short_method(method: str) -> str:
    """Service/Method of /package.Service/Method."""
    package_service, _, name = method.strip("/").rpartition("/")
    return f"{package_service.rpartition('.')[2]}/{name}"
