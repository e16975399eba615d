"""The parts of the edge, joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from headlift.serving.edge.access import Access
from headlift.serving.edge.gate import Gate
from headlift.serving.edge.quotas import Quotas

STREAM_IDLE_S = 600.0
CALLS_MAX = 1024


@dataclass(frozen=True)
class Finished:
    """A call that has ended, for logs and metrics."""

    method: str  # /package.Service/Method
    code: str  # name of its gRPC status
    seconds: float
    tenant: str  # empty where it is not known
    call_id: str


@dataclass(frozen=True)
class Edge:
    """What the guard asks.

    Attributes:
        deadline_s: Bounds every answer, and every message of an answered stream, whatever the caller allows.
        stream_idle_s: Bounds the silence on a stream in both directions.
        access: Who calls.
        quotas: How much tenants may ask for.
        gate: How much the server takes.
        reflection_scope: Whether reflection needs its own scope, or any credential will do.
        draining: Set when the server is about to leave.
        observers: Told of every call that has ended; quick, and without exceptions.
    """

    deadline_s: float
    stream_idle_s: float = STREAM_IDLE_S
    access: Access = field(default_factory=Access)
    quotas: Quotas = field(default_factory=Quotas)
    gate: Gate = field(default_factory=lambda: Gate(CALLS_MAX))
    reflection_scope: bool = True
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    observers: tuple[Callable[[Finished], None], ...] = ()
