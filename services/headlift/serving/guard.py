"""Between gRPC and a servicer: contexts, deadlines, and errors as statuses.

Requests are parsed here and not by gRPC, which answers garbage with INTERNAL and the text of the exception.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_status import rpc_status

from headlift.errors import DeadlineError, FormatError, HeadliftError
from headlift.gateway.status import status_of, unexpected_status

_log = logging.getLogger("headlift.rpc")
_OURS = "/headlift."
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
Handler = Any  # grpc.RpcMethodHandler, whose attributes gRPC does not type
Context = grpc.aio.ServicerContext[Any, Any]


class GrpcCallContext:
    """A CallContext over gRPC's."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """See CallContext."""
        pairs = self._context.invocation_metadata() or ()
        return {str(key): value for key, value in pairs if isinstance(value, str)}

    @cached_property
    def call_id(self) -> str:
        """What log lines and reports about faults name this call by: the caller's x-request-id, or a new id."""
        given = self.metadata.get("x-request-id", "")
        return given if _CALL_ID.fullmatch(given) else uuid.uuid4().hex

    def time_remaining_s(self) -> float | None:
        """See CallContext."""
        return self._context.time_remaining()

    def cancelled(self) -> bool:
        """See CallContext."""
        return bool(self._context.cancelled())


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Stands before every unary-request RPC of a server."""

    def __init__(self, deadline_s: float) -> None:
        """``deadline_s`` bounds every answer, and every message of a stream, whatever the caller allows."""
        self._deadline_s = deadline_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or handler.request_streaming or not method.startswith(_OURS):
            return handler
        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        serve = self._streaming(handler, method) if handler.response_streaming else self._unary(handler, method)
        return make(serve, request_deserializer=None, response_serializer=handler.response_serializer)

    def _unary(self, handler: Any, method: str) -> Callable[[bytes, Context], Awaitable[Any]]:
        async def serve(raw: bytes, context: Context) -> Any:
            call, begin = GrpcCallContext(context), time.perf_counter()
            try:
                request = _parse(handler, raw)
                async with asyncio.timeout(self._limit_s(call)):
                    answer = await handler.unary_unary(request, call)
            except Exception as error:
                await _abort(context, call, method, begin, error)
            _log_call(method, "OK", begin, call)
            return answer

        return serve

    def _streaming(self, handler: Any, method: str) -> Callable[[bytes, Context], AsyncIterator[Any]]:
        async def serve(raw: bytes, context: Context) -> AsyncIterator[Any]:
            call, begin = GrpcCallContext(context), time.perf_counter()
            try:
                answers = handler.unary_stream(_parse(handler, raw), call)
                while True:
                    # A slow reader costs the server nothing, so only the making of a message is timed.
                    async with asyncio.timeout(self._limit_s(call)):
                        answer = await anext(answers, None)
                    if answer is None:
                        break
                    yield answer
            except Exception as error:
                await _abort(context, call, method, begin, error)
            _log_call(method, "OK", begin, call)

        return serve

    def _limit_s(self, call: GrpcCallContext) -> float:
        remaining = call.time_remaining_s()
        return self._deadline_s if remaining is None else min(remaining, self._deadline_s)


def _parse(handler: Any, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        raise FormatError(f"The request's {len(raw)} bytes are not the message that this method takes.") from None


async def _abort(context: Context, call: GrpcCallContext, method: str, begin: float, error: Exception) -> None:
    """End the call with the status that ``error`` stands for; always raises."""
    if isinstance(error, TimeoutError):
        error = DeadlineError("The time for this request is over; allow more, or ask for less.")
    if isinstance(error, HeadliftError):
        status = status_of(error)
        _log_call(method, error.code, begin, call)
    else:
        status = unexpected_status(call.call_id)
        _log.error("%s failed, call %s", method, call.call_id, exc_info=error)
    await _send(context, status)


async def _send(context: Context, status: status_pb2.Status) -> None:
    plain = rpc_status.to_status(status)
    await context.abort(plain.code, plain.details, plain.trailing_metadata)


def _log_call(method: str, code: str, begin: float, call: GrpcCallContext) -> None:
    _log.info("%s %s %.1f ms call=%s", method, code, (time.perf_counter() - begin) * 1e3, call.call_id)
