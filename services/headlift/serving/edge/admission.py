"""One call's way past quotas: its messages parsed, checked for their tenant, and charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Any

from google.protobuf.message import DecodeError, Message

from headlift.errors import DeadlineError, FormatError, HeadliftError
from headlift.serving.edge.call_context import GrpcCallContext
from headlift.serving.edge.quotas import CallCost, Quotas
from headlift.serving.edge.tenancy import check_own, tenant_of

Handler = Any  # grpc.RpcMethodHandler, whose attributes gRPC does not type


class CallAdmission:
    """Admits one call's messages; what the call borrows is returned when ``stack`` is left."""

    def __init__(self, quotas: Quotas, call: GrpcCallContext) -> None:
        self.call = call
        self.tenant = ""
        self.stack = AsyncExitStack()
        self._quotas = quotas
        self._cost = CallCost(0)

    async def first(self, handler: Handler, raw: bytes) -> Message:
        """The first request, once its caller may make it."""
        fault: HeadliftError | None = None
        request: Any = None
        try:
            request = self.parse(handler, raw)
        except HeadliftError as error:
            fault = error  # raised below: what cannot be parsed counts like any other request
        self.tenant = self.call.caller.tenant if self.call.caller else tenant_of(request) if request else ""
        self._cost = CallCost.of(request, len(raw))
        await self._quotas.admit(self.call.caller, self.tenant, self._cost, self.stack)
        if fault is not None:
            raise fault
        assert isinstance(request, Message)
        return request

    async def further(self, handler: Handler, raw: bytes) -> Message:
        """A further request of a stream."""
        await self._quotas.add(self.call.caller, self.tenant, len(raw))
        return self.parse(handler, raw)

    def succeeded(self) -> None:
        """Count what the call has made."""
        self._quotas.settle(self.tenant, self._cost)

    def parse(self, handler: Handler, raw: bytes) -> Message:
        """A message that this caller may send."""
        try:
            request: Message = handler.request_deserializer(raw)
        except DecodeError:
            raise FormatError(f"The request's {len(raw)} bytes are not the message that this method takes.") from None
        if self.call.caller is not None:
            check_own(request, self.call.caller)
        return request


class RequestStream:
    """The requests of a stream. A bad one ends the call, even if the servicer swallows the error.

    The idle time counts while neither side sends: work in between is the servicer's to bound.
    """

    def __init__(
        self, admission: CallAdmission, handler: Handler, received: AsyncIterator[bytes], idle_s: float
    ) -> None:
        self._admission = admission
        self._handler = handler
        self._received = received
        self._idle_s = idle_s
        self._timeout: asyncio.Timeout | None = None
        self._fault: HeadliftError | None = None

    async def requests(self) -> AsyncIterator[Message]:
        """Parsed requests, for the servicer."""
        admit = self._admission.first
        async for raw in self._received:
            self._extend(self._idle_s)
            try:
                request = await admit(self._handler, raw)
            except HeadliftError as error:
                self._fault = error
                self._extend(0.0)
                raise
            admit = self._admission.further
            yield request

    async def wait(self, answer: Awaitable[Any]) -> Any:
        """Await the servicer's next answer. DeadlineError: both sides were silent for too long."""
        try:
            async with asyncio.timeout(self._idle_s) as self._timeout:
                return await answer
        except TimeoutError:
            raise self._fault or DeadlineError(
                f"Nothing was sent on this stream for {self._idle_s:g} s; open another one."
            ) from None
        finally:
            self._timeout = None

    def _extend(self, seconds: float) -> None:
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time() + seconds)
