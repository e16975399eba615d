"""What each call takes from its tenant's allowance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import Message

from headlift.serving.edge.callers import Caller
from headlift.serving.edge.limits import Limiter, Limits, LocalLimiter
from headlift.serving.edge.stored import StoredHeads
from headlift.v1.batch_service_pb2 import BatchCreateHeadsRequest
from headlift.v1.edit_service_pb2 import EditHeadRequest, ReplayEditsRequest
from headlift.v1.head_service_pb2 import CreateHeadRequest
from headlift.v1.live_pb2 import LiveRequest


@dataclass(frozen=True)
class Ask:
    """What matters here about a call's first message."""

    size: int  # bytes
    makes_heads: int = 0
    keeps_heads: int = 0  # and stores them
    long: bool = False  # a stream of requests

    @classmethod
    def of(cls, request: Message | None, size: int) -> Self:
        """Looks at the message; None is one that could not be read."""
        if isinstance(request, CreateHeadRequest):
            return cls(size, 1, int(not request.validate_only))
        if isinstance(request, EditHeadRequest):
            return cls(size, 1, 1)
        if isinstance(request, ReplayEditsRequest):
            # Of a picture, the head that it shows and the one that is edited.
            heads = sum(2 if target.WhichOneof("target") == "picture" else 1 for target in request.targets)
            return cls(size, heads, heads)
        if isinstance(request, BatchCreateHeadsRequest):
            # Its items are counted when each is made; refused here is who has no room for even one.
            return cls(size, 0, 1, long=True)
        if isinstance(request, LiveRequest):
            portrait = request.open.WhichOneof("source") == "portrait"
            return cls(size, int(portrait), int(portrait), long=True)
        return cls(size)


class Quotas:
    """Limits, a limiter that counts, and the number of heads that there are."""

    def __init__(
        self,
        limits: Limits | None = None,
        limiter: Limiter | None = None,
        count_heads: Callable[[str], Awaitable[int]] | None = None,
    ) -> None:
        """``limits`` hold where a caller has none of its own; ``count_heads`` counts a tenant's stored heads."""
        self._limits = limits or Limits()
        self._limiter = limiter or LocalLimiter()
        self._heads = StoredHeads(count_heads) if count_heads is not None else None

    async def admit(self, caller: Caller | None, tenant: str, ask: Ask, stack: AsyncExitStack) -> None:
        """Take what a call costs; ``stack`` gives back what it only borrows.

        Raises:
            RateLimitError: Too much for now; says how long to wait.
            QuotaError: The tenant has all the heads that it may have.
        """
        limits, purse = self._purse(caller, tenant)
        draws = limits.draws(creates=ask.makes_heads, size=ask.size)
        if draws or limits.concurrent_calls:
            lease = await self._limiter.admit(purse, draws, limits.concurrent_calls)
            stack.push_async_callback(lease.release)
        for _ in range(ask.keeps_heads if limits.heads and self._heads is not None else 0):
            assert self._heads is not None
            await self._heads.reserve(tenant, limits.heads)
            if ask.long:  # its head will long be counted when the call ends
                self._heads.release(tenant)
            else:
                stack.callback(self._heads.release, tenant)

    async def add(self, caller: Caller | None, tenant: str, size: int) -> None:
        """Take what a further message of a stream costs. Raises as ``admit``."""
        limits, purse = self._purse(caller, tenant)
        draws = limits.draws(requests=0, size=size)
        if draws:
            await (await self._limiter.admit(purse, draws)).release()

    def settle(self, tenant: str, ask: Ask) -> None:
        """Take note of a call that succeeded."""
        if self._heads is not None and not ask.long:
            for _ in range(ask.keeps_heads):
                self._heads.made(tenant)

    @asynccontextmanager
    async def making_one(self, tenant: str) -> AsyncIterator[None]:
        """While one head of a batch is made, under the server's own limits. Raises as ``admit``."""
        ask = Ask(0, 1, 1)
        async with AsyncExitStack() as stack:
            await self.admit(None, tenant, ask, stack)
            yield
            self.settle(tenant, ask)

    async def close(self) -> None:
        """Let go of connections."""
        await self._limiter.close()

    def _purse(self, caller: Caller | None, tenant: str) -> tuple[Limits, str]:
        """The limits that hold, and the name that they are counted under."""
        if caller is not None and caller.limits:
            return self._limits.merged(caller.limits), f"{tenant}/{caller.subject}"
        return self._limits, tenant or "-"
