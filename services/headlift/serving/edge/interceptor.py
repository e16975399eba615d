"""Between gRPC and a servicer: authentication, admission, deadlines, and errors as statuses.

Requests are parsed here and not by gRPC, which answers garbage with INTERNAL and the text of the exception.
Servicers see messages and a CallContext: ``handler(request, call)`` and ``handler(requests, call)``, coroutines for one
answer and asynchronous generators for several.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from headlift.errors import DeadlineError, HeadliftError, QuotaError, RateLimitError
from headlift.serving.edge.admission import CallAdmission, Handler, RequestStream
from headlift.serving.edge.auth import Authenticator, Caller, scope_of
from headlift.serving.edge.call_context import REQUEST_ID, Context, GrpcCallContext, plain_metadata, refuse
from headlift.serving.edge.limits import ConcurrencyLimiter
from headlift.serving.edge.quotas import Quotas
from headlift.status import status_of, unexpected_status
from headlift.telemetry.rpc import RpcOutcome, rpc_span

_log = logging.getLogger("headlift.rpc")
STREAM_IDLE_S = 600.0
CALLS_MAX = 1024
_OURS, _HEALTH = ("/headlift.", "/google.longrunning."), "/grpc.health."
_END = object()
_CANCELLED = RpcOutcome("CANCELLED", "CANCELLED")
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@dataclass(frozen=True)
class FinishedCall:
    """A call that has ended, for logs and metrics."""

    method: str  # /package.Service/Method
    code: str  # name of its gRPC status
    seconds: float
    tenant: str  # empty where it is not known
    call_id: str


@dataclass(frozen=True)
class EdgePolicy:
    """What the interceptor enforces.

    Attributes:
        deadline_s: Bounds every answer, and every message of an answered stream, whatever the caller allows.
        stream_idle_s: Bounds the silence on a stream in both directions.
        authenticator: Who calls.
        quotas: How much tenants may ask for.
        concurrency: How many calls the server takes.
        reflection_scope: Whether reflection needs its own scope, or any credential will do.
        draining: Set when the server is about to leave.
        observers: Called with every call that has ended; quick, and without exceptions.
    """

    deadline_s: float
    stream_idle_s: float = STREAM_IDLE_S
    authenticator: Authenticator = field(default_factory=Authenticator)
    quotas: Quotas = field(default_factory=Quotas)
    concurrency: ConcurrencyLimiter = field(default_factory=lambda: ConcurrencyLimiter(CALLS_MAX))
    reflection_scope: bool = True
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    observers: tuple[Callable[[FinishedCall], None], ...] = ()


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Enforces an EdgePolicy on every RPC of a server, of all four kinds, but health checks."""

    def __init__(self, policy: EdgePolicy) -> None:
        self._policy = policy

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method.startswith(_HEALTH):
            return handler
        kind = (bool(handler.request_streaming), bool(handler.response_streaming))
        if method.startswith(_OURS):
            serve = (self._streaming if kind[1] else self._single)(handler, method)
            return _MAKERS[kind](serve, request_deserializer=None, response_serializer=handler.response_serializer)
        # gRPC's own services (reflection) need gRPC's own context: they are passed through as they are, or refused.
        try:
            self._authenticate(method, plain_metadata(handler_call_details.invocation_metadata))
        except HeadliftError as error:
            return _MAKERS[kind](_refusing(error, method))
        return handler

    def _single(self, handler: Handler, method: str) -> Callable[[Any, Context], Awaitable[Any]]:
        """Serve calls of one answer."""

        async def serve(received: Any, context: Context) -> Any:
            async with self._call(context, method) as admission:
                call = admission.call
                if handler.request_streaming:
                    stream = RequestStream(admission, handler, received, self._policy.stream_idle_s)
                    answer = await stream.wait(handler.stream_unary(stream.requests(), call))
                else:
                    request = await admission.first(handler, received)
                    async with asyncio.timeout(call.bound(self._policy.deadline_s)):
                        answer = await handler.unary_unary(request, call)
                admission.succeeded()
            return answer

        return serve

    def _streaming(self, handler: Handler, method: str) -> Callable[[Any, Context], Awaitable[None]]:
        async def serve(received: Any, context: Context) -> None:
            async with self._call(context, method) as admission:
                stream: RequestStream | None = None
                if handler.request_streaming:
                    stream = RequestStream(admission, handler, received, self._policy.stream_idle_s)
                    answers = handler.stream_stream(stream.requests(), admission.call)
                else:
                    answers = handler.unary_stream(await admission.first(handler, received), admission.call)
                async with aclosing(answers):
                    while (answer := await self._next(answers, stream, admission.call)) is not _END:
                        await context.write(answer)
                admission.succeeded()

        return serve

    async def _next(self, answers: Any, stream: RequestStream | None, call: GrpcCallContext) -> Any:
        if stream is not None:
            return await stream.wait(anext(answers, _END))
        # Only the making of a message is timed: a slow reader costs the server nothing.
        async with asyncio.timeout(call.bound(self._policy.deadline_s)):
            return await anext(answers, _END)

    @asynccontextmanager
    async def _call(self, context: Context, method: str) -> AsyncIterator[CallAdmission]:
        """A call from its admission to its end: an answer, a status or cancellation."""
        call, begin, outcome = GrpcCallContext(context, self._policy.draining), time.perf_counter(), _CANCELLED
        context.set_trailing_metadata(((REQUEST_ID, call.call_id),))
        admission = CallAdmission(self._policy.quotas, call)
        with rpc_span(method, call.call_id, call.metadata) as span:
            try:
                with self._policy.concurrency.slot():
                    call.caller = self._authenticate(method, plain_metadata(context.invocation_metadata()))
                    async with admission.stack:
                        yield admission
                outcome = RpcOutcome("OK")
            except Exception as error:
                if isinstance(error, TimeoutError):
                    error = DeadlineError("The time for this request is over; allow more, or ask for less.")
                outcome = outcome_of(error)
                if outcome.code == "INTERNAL":
                    _log.error("%s failed, call %s", method, call.call_id, exc_info=error)
                status = status_of(error) if isinstance(error, HeadliftError) else unexpected_status(call.call_id)
                await refuse(context, status, call.call_id)
            finally:
                seconds = time.perf_counter() - begin
                span.end(outcome, seconds)
                self._finish(FinishedCall(method, outcome.code, seconds, admission.tenant, call.call_id))

    def _authenticate(self, method: str, metadata: dict[str, str]) -> Caller | None:
        caller = self._policy.authenticator.authenticate(metadata)
        if caller is not None:
            scope = scope_of(method)
            if scope != "reflection" or self._policy.reflection_scope:
                caller.require(scope)
        return caller

    def _finish(self, finished: FinishedCall) -> None:
        took_ms = finished.seconds * 1e3
        who = finished.tenant or "-"
        facts = {"method": finished.method, "code": finished.code, "ms": round(took_ms, 1), "tenant": finished.tenant}
        line = "%s %s %.1f ms tenant=%s call=%s"
        _log.info(line, finished.method, finished.code, took_ms, who, finished.call_id, extra=facts)
        for observe in self._policy.observers:
            observe(finished)


def outcome_of(error: Exception) -> RpcOutcome:
    """An error as telemetry records it."""
    if not isinstance(error, HeadliftError):
        return RpcOutcome("INTERNAL", "INTERNAL")
    limit = error.metadata.get("limit", "") if isinstance(error, RateLimitError | QuotaError) else ""
    return RpcOutcome(error.code, error.reason, limit)


def _refusing(error: HeadliftError, method: str) -> Callable[[Any, Context], Awaitable[None]]:
    async def serve(_: Any, context: Context) -> None:
        call = GrpcCallContext(context)
        _log.info("%s %s call=%s", method, error.code, call.call_id)
        await refuse(context, status_of(error), call.call_id)

    return serve
