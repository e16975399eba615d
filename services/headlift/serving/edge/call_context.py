"""The CallContext of one gRPC call, and how a call is refused."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from headlift.serving.edge.auth import Caller

REQUEST_ID = "x-request-id"
_CALL_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
SECRET = ("authorization", "x-api-key")
Context = grpc.aio.ServicerContext[Any, Any]


class GrpcCallContext:
    """A CallContext over gRPC's.

    Attributes:
        caller: Who calls; None where calls need no credential.
        draining: Set once the server is about to shut down: long streams should say so and end.
    """

    def __init__(self, context: Context, draining: asyncio.Event | None = None) -> None:
        self.caller: Caller | None = None
        self.draining = draining or asyncio.Event()
        self._context = context
        self._until: float | None = None

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """See CallContext; credentials are left out, so that no servicer can log or forward them."""
        return {k: v for k, v in plain_metadata(self._context.invocation_metadata()).items() if k not in SECRET}

    @cached_property
    def call_id(self) -> str:
        """Names this call in logs and error reports: the caller's x-request-id, or a new id."""
        given = self.metadata.get(REQUEST_ID, "")
        return given if _CALL_ID.fullmatch(given) else uuid.uuid4().hex

    def time_remaining_s(self) -> float | None:
        """See CallContext: the sooner of the caller's deadline and the server's own."""
        caller = self._context.time_remaining()
        own = None if self._until is None else self._until - asyncio.get_running_loop().time()
        return min((t for t in (caller, own) if t is not None), default=None)

    def bound(self, seconds: float) -> float:
        """Bound the next answer to ``seconds``; the time that it really has, with the caller's deadline."""
        self._until = asyncio.get_running_loop().time() + seconds
        remaining = self.time_remaining_s()
        return seconds if remaining is None else remaining

    def cancelled(self) -> bool:
        """See CallContext."""
        return bool(self._context.cancelled())


def plain_metadata(pairs: Any) -> dict[str, str]:
    """Metadata without its binary values, as a dict."""
    return {str(key): value for key, value in pairs or () if isinstance(value, str)}


async def refuse(context: Context, status: status_pb2.Status, call_id: str) -> None:
    """End the call with ``status``; always raises."""
    plain = rpc_status.to_status(status)
    await context.abort(plain.code, plain.details, (*plain.trailing_metadata, (REQUEST_ID, call_id)))
