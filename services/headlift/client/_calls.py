"""Calls as data: what is sent, and how what comes back is read.

The builders (``_heads``, ``_edits``, ``_batches``, ``_live``) turn plain arguments into these and do no network I/O;
the two faces (``_sync``, ``_async``) carry them out. ``bind`` joins one with the other into a method.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from headlift.v1 import batch_service_pb2_grpc, edit_service_pb2_grpc, head_service_pb2_grpc

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")
R = TypeVar("R")


class Stubs:
    """The services that a client talks to, on a channel of either of gRPC's two APIs."""

    def __init__(self, channel: Any) -> None:
        self.heads: head_service_pb2_grpc.HeadServiceStub = head_service_pb2_grpc.HeadServiceStub(channel)
        self.edits: edit_service_pb2_grpc.EditServiceStub = edit_service_pb2_grpc.EditServiceStub(channel)
        self.batches: batch_service_pb2_grpc.BatchServiceStub = batch_service_pb2_grpc.BatchServiceStub(channel)
        self.operations: Any = operations_pb2_grpc.OperationsStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        method: Finds the method among the stubs.
        request: The message.
        read: What the caller gets of a response.
        timeout_s: Time that the call may take, its retries included; None takes the client's.
    """

    method: Callable[[Stubs], Any]
    request: Any
    read: Callable[[Any], T]
    timeout_s: float | None = None


class Unary(Call[T]):
    """With one response."""


class Stream(Call[T]):
    """With a stream of responses."""


@dataclass(frozen=True)
class Gathered(Generic[T]):
    """A stream whose messages make one ``result``, asked for when all have been read."""

    stream: Stream[None]
    result: Callable[[], T]


Pages = Iterator[Unary[list[T]]]  # a list in parts; each call asks for what follows the one before
Polls = Iterator[Unary[T | None]]  # repeated until the answer is not None; raises when it has taken too long


def pages(
    method: Callable[[Stubs], Any], request: Any, items: Callable[[Any], Iterable[T]], timeout_s: float | None = None
) -> Pages[T]:
    """Calls of a method with page tokens (AIP-158), up to the last page."""

    def read(page: Any) -> list[T]:
        request.page_token = page.next_page_token
        return list(items(page))

    yield Unary(method, request, read, timeout_s)
    while request.page_token:
        yield Unary(method, request, read, timeout_s)


class HasTenant(Protocol):
    """What a builder needs of a client."""

    tenant: str


Face = TypeVar("Face", bound=HasTenant)


def bind(
    build: Callable[Concatenate[str, P], C], carry_out: Callable[[Face, C], R]
) -> Callable[Concatenate[Face, P], R]:
    """A method with the parameters and the docstring of ``build``, and the result of ``carry_out``.

    Args:
        build: Makes a call of the client's tenant and the method's arguments.
        carry_out: The face's way to do such a call.
    """

    @functools.wraps(build)
    def method(self: Face, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return carry_out(self, build(self.tenant, *args, **kwargs))

    # For help(): self in place of tenant, and Head in place of Unary[Head].
    signature = inspect.signature(build)
    parameters = list(signature.parameters.values())
    result = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    returns = re.sub(r"\bT\b", lambda _: result, carry_out.__annotations__["return"])
    if inspect.iscoroutinefunction(carry_out):
        returns = f"Awaitable[{returns}]"
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameters[0].replace(name="self", annotation=inspect.Parameter.empty), *parameters[1:]],
        return_annotation=returns,
    )
    return method
