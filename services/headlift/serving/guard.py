"""Between gRPC and a servicer: who calls, how much, until when, and errors as statuses.

Requests are parsed here and not by gRPC, which answers garbage with INTERNAL and the text of the exception.
Servicers see messages and a CallContext: ``handler(request, call)`` and ``handler(requests, call)``, coroutines for one
answer and asynchronous generators for several.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from headlift.errors import DeadlineError, FormatError, HeadliftError, QuotaError, RateLimitError
from headlift.serving.edge.callers import scope_of
from headlift.serving.edge.calls import REQUEST_ID, Context, GrpcCallContext, plain_metadata, refuse
from headlift.serving.edge.edge import Edge, Finished
from headlift.serving.edge.quotas import Ask
from headlift.serving.edge.tenancy import check_own, tenant_of
from headlift.status import status_of, unexpected_status
from headlift.telemetry.rpc import RpcOutcome, rpc_span

_log = logging.getLogger("headlift.rpc")
_OURS, _HEALTH = ("/headlift.", "/google.longrunning."), "/grpc.health."
_END = object()
_CANCELLED = RpcOutcome("CANCELLED", "CANCELLED")
Handler = Any  # grpc.RpcMethodHandler, whose attributes gRPC does not type
_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Stands before every RPC of a server, of all four kinds; health alone passes unasked."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

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
        # gRPC's own services (reflection) need gRPC's own context: they are let through as they are, or not at all.
        try:
            self._authenticate(method, plain_metadata(handler_call_details.invocation_metadata))
        except HeadliftError as error:
            return _MAKERS[kind](_refusing(error, method))
        return handler

    def _single(self, handler: Handler, method: str) -> Callable[[Any, Context], Awaitable[Any]]:
        """One answer; to a stream of requests, silence ends the call as it does in ``_streaming``."""

        async def serve(received: Any, context: Context) -> Any:
            async with self._call(context, method) as passage:
                call = passage.call
                if handler.request_streaming:
                    messages = Messages(passage, handler, received)
                    answer = await messages.wait(handler.stream_unary(messages.read(), call))
                else:
                    request = await passage.open(handler, received)
                    async with asyncio.timeout(call.bound(self._edge.deadline_s)):
                        answer = await handler.unary_unary(request, call)
                passage.answered()
            return answer

        return serve

    def _streaming(self, handler: Handler, method: str) -> Callable[[Any, Context], Awaitable[None]]:
        async def serve(received: Any, context: Context) -> None:
            async with self._call(context, method) as passage:
                messages = Messages(passage, handler, received) if handler.request_streaming else None
                if messages is not None:
                    answers = handler.stream_stream(messages.read(), passage.call)
                else:
                    answers = handler.unary_stream(await passage.open(handler, received), passage.call)
                async with aclosing(answers):
                    while (answer := await self._next(answers, messages, passage.call)) is not _END:
                        await context.write(answer)
                passage.answered()

        return serve

    async def _next(self, answers: Any, messages: Messages | None, call: GrpcCallContext) -> Any:
        if messages is not None:
            return await messages.wait(anext(answers, _END))
        # A slow reader costs the server nothing, so only the making of a message is timed.
        async with asyncio.timeout(call.bound(self._edge.deadline_s)):
            return await anext(answers, _END)

    @asynccontextmanager
    async def _call(self, context: Context, method: str) -> AsyncIterator[Passage]:
        """A call from its admission to its end, which is an answer, a status or the caller's going away."""
        call, begin, outcome = GrpcCallContext(context, self._edge.draining), time.perf_counter(), _CANCELLED
        context.set_trailing_metadata(((REQUEST_ID, call.call_id),))
        passage = Passage(self._edge, call)
        with rpc_span(method, call.call_id, call.metadata) as span:
            try:
                with self._edge.gate.place():
                    call.caller = self._authenticate(method, plain_metadata(context.invocation_metadata()))
                    async with passage.stack:
                        yield passage
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
                self._finish(Finished(method, outcome.code, seconds, passage.tenant, call.call_id))

    def _authenticate(self, method: str, metadata: dict[str, str]) -> Any:
        caller = self._edge.access.caller(metadata)
        if caller is not None:
            scope = scope_of(method)
            if scope != "reflection" or self._edge.reflection_scope:
                caller.require(scope)
        return caller

    def _finish(self, finished: Finished) -> None:
        took_ms = finished.seconds * 1e3
        who = finished.tenant or "-"
        facts = {"method": finished.method, "code": finished.code, "ms": round(took_ms, 1), "tenant": finished.tenant}
        line = "%s %s %.1f ms tenant=%s call=%s"
        _log.info(line, finished.method, finished.code, took_ms, who, finished.call_id, extra=facts)
        for observe in self._edge.observers:
            observe(finished)


class Passage:
    """One call on its way through the guard; what it holds is given back when ``stack`` is left."""

    def __init__(self, edge: Edge, call: GrpcCallContext) -> None:
        self.call = call
        self.tenant = ""
        self.stack = AsyncExitStack()
        self._edge = edge
        self._ask = Ask(0)

    @property
    def stream_idle_s(self) -> float:
        """See Edge."""
        return self._edge.stream_idle_s

    async def open(self, handler: Handler, raw: bytes) -> Message:
        """The first request, once its caller may make it."""
        fault: HeadliftError | None = None
        request: Any = None
        try:
            request = self.parse(handler, raw)
        except HeadliftError as error:
            fault = error  # told below: nonsense counts like any other request
        self.tenant = self.call.caller.tenant if self.call.caller else tenant_of(request) if request else ""
        self._ask = Ask.of(request, len(raw))
        await self._edge.quotas.admit(self.call.caller, self.tenant, self._ask, self.stack)
        if fault is not None:
            raise fault
        assert isinstance(request, Message)
        return request

    async def more(self, handler: Handler, raw: bytes) -> Message:
        """A further request of a stream."""
        await self._edge.quotas.add(self.call.caller, self.tenant, len(raw))
        return self.parse(handler, raw)

    def answered(self) -> None:
        """Note an answer that may change what the tenant has."""
        self._edge.quotas.settle(self.tenant, self._ask)

    def parse(self, handler: Handler, raw: bytes) -> Message:
        """A message that this caller may send."""
        try:
            request: Message = handler.request_deserializer(raw)
        except DecodeError:
            raise FormatError(f"The request's {len(raw)} bytes are not the message that this method takes.") from None
        if self.call.caller is not None:
            check_own(request, self.call.caller)
        return request


class Messages:
    """The requests of a stream. A bad one ends the call, even if the servicer does not let it through.

    The clock of a stream runs while neither side says anything: what takes time in between is the servicer's to bound.
    """

    def __init__(self, passage: Passage, handler: Handler, received: AsyncIterator[bytes]) -> None:
        self._passage = passage
        self._handler = handler
        self._received = received
        self._patience: asyncio.Timeout | None = None
        self._fault: HeadliftError | None = None

    async def read(self) -> AsyncIterator[Message]:
        """What servicers read from."""
        first = True
        async for raw in self._received:
            self._listen(self._passage.stream_idle_s)
            try:
                request = await (self._passage.open if first else self._passage.more)(self._handler, raw)
            except HeadliftError as error:
                self._fault = error
                self._listen(0.0)
                raise
            first = False
            yield request

    async def wait(self, answer: Awaitable[Any]) -> Any:
        """The next answer. DeadlineError: there was silence for too long."""
        try:
            async with asyncio.timeout(self._passage.stream_idle_s) as self._patience:
                return await answer
        except TimeoutError:
            raise self._fault or DeadlineError(
                f"Nothing was said on this stream for {self._passage.stream_idle_s:g} s; open another one."
            ) from None
        finally:
            self._patience = None

    def _listen(self, seconds: float) -> None:
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time() + seconds)


def outcome_of(error: Exception) -> RpcOutcome:
    """What telemetry hears of an error."""
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
