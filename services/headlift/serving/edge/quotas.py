"""What each call costs its tenant, and how many heads the tenant may have."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import Message

from headlift.errors import QuotaError
from headlift.serving.edge.auth import Caller
from headlift.serving.edge.limits import Limiter, Limits, LocalLimiter
from headlift.v1.batch_service_pb2 import BatchCreateHeadsRequest
from headlift.v1.edit_service_pb2 import EditHeadRequest, ReplayEditsRequest
from headlift.v1.head_service_pb2 import CreateHeadRequest
from headlift.v1.live_pb2 import LiveRequest

_COUNT_AGE_MAX_S = 30.0  # counting lists every key of the tenant's heads: slow with many of them in S3
_TENANTS_MAX = 10_000


@dataclass(frozen=True)
class CallCost:
    """What a call's first message costs."""

    size: int  # bytes
    makes_heads: int = 0
    keeps_heads: int = 0  # and stores them
    long: bool = False  # a stream: it may run for hours after its first message

    @classmethod
    def of(cls, request: Message | None, size: int) -> Self:
        """The cost of a message of ``size`` bytes; None is one that could not be parsed."""
        if isinstance(request, CreateHeadRequest):
            return cls(size, 1, int(not request.validate_only))
        if isinstance(request, EditHeadRequest):
            return cls(size, 1, 1)
        if isinstance(request, ReplayEditsRequest):
            # Of a picture, the head that it shows and the one that is edited.
            heads = sum(2 if target.WhichOneof("target") == "picture" else 1 for target in request.targets)
            return cls(size, heads, heads)
        if isinstance(request, BatchCreateHeadsRequest):
            # Each item is counted when it is made; here only a tenant without room for a single one is refused.
            return cls(size, 0, 1, long=True)
        if isinstance(request, LiveRequest):
            portrait = request.open.WhichOneof("source") == "portrait"
            return cls(size, int(portrait), int(portrait), long=True)
        return cls(size)


class Quotas:
    """Charges calls to their tenants."""

    def __init__(
        self,
        limits: Limits | None = None,
        limiter: Limiter | None = None,
        count_heads: Callable[[str], Awaitable[int]] | None = None,
    ) -> None:
        """``limits`` hold where a caller has none of its own; ``count_heads`` counts a tenant's stored heads."""
        self._limits = limits or Limits()
        self._limiter = limiter or LocalLimiter()
        self._head_quota = HeadQuota(count_heads) if count_heads is not None else None

    async def admit(self, caller: Caller | None, tenant: str, cost: CallCost, stack: AsyncExitStack) -> None:
        """Charge a call; ``stack`` returns what it only borrows.

        Raises:
            RateLimitError: Too much for now; says how long to wait.
            QuotaError: The tenant has all the heads that it may have.
        """
        limits, account = self._limits_of(caller, tenant)
        draws = limits.draws(creates=cost.makes_heads, size=cost.size)
        if draws or limits.concurrent_calls:
            slot = await self._limiter.admit(account, draws, limits.concurrent_calls)
            stack.push_async_callback(slot.release)
        for _ in range(cost.keeps_heads if limits.heads and self._head_quota is not None else 0):
            assert self._head_quota is not None
            await self._head_quota.reserve(tenant, limits.heads)
            if cost.long:  # it is counted as stored long before the call ends
                self._head_quota.release(tenant)
            else:
                stack.callback(self._head_quota.release, tenant)

    async def add(self, caller: Caller | None, tenant: str, size: int) -> None:
        """Charge a further message of a stream. Raises as ``admit``."""
        limits, account = self._limits_of(caller, tenant)
        draws = limits.draws(requests=0, size=size)
        if draws:
            await (await self._limiter.admit(account, draws)).release()

    def settle(self, tenant: str, cost: CallCost) -> None:
        """Count the heads of a call that succeeded."""
        if self._head_quota is not None and not cost.long:
            for _ in range(cost.keeps_heads):
                self._head_quota.made(tenant)

    @asynccontextmanager
    async def making_one(self, tenant: str) -> AsyncIterator[None]:
        """Charge one head of a batch, made in the block, under the server's own limits. Raises as ``admit``."""
        cost = CallCost(0, 1, 1)
        async with AsyncExitStack() as stack:
            await self.admit(None, tenant, cost, stack)
            yield
            self.settle(tenant, cost)

    async def close(self) -> None:
        """Close connections."""
        await self._limiter.close()

    def _limits_of(self, caller: Caller | None, tenant: str) -> tuple[Limits, str]:
        """The limits that hold, and the name that they are counted under."""
        if caller is not None and caller.limits:
            return self._limits.merged(caller.limits), f"{tenant}/{caller.subject}"
        return self._limits, tenant or "-"


class HeadQuota:
    """Bounds the heads that a tenant has, without counting them at every call.

    Exact within one server. Heads made by others are counted half a minute later at most, so a tenant that creates on
    several servers at once may exceed its quota by what the others make in that time.
    """

    def __init__(self, count: Callable[[str], Awaitable[int]], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}
        self._pending: Counter[str] = Counter()

    async def reserve(self, tenant: str, heads_max: int) -> None:
        """Reserve one head until ``release``. QuotaError: the tenant has all that it may have."""
        self._pending[tenant] += 1
        try:
            # The remembered count may have fallen since: only a fresh one refuses.
            if await self._heads(tenant) < heads_max or await self._heads(tenant, fresh=True) < heads_max:
                return
        except BaseException:
            self.release(tenant)
            raise
        self.release(tenant)
        raise QuotaError(
            f"There are {heads_max} heads already, which is the quota; delete some, or ask for a larger one.",
            metadata={"limit": "heads"},
        )

    def made(self, tenant: str) -> None:
        """A reserved head was made."""
        if tenant in self._counts:
            at, count = self._counts[tenant]
            self._counts[tenant] = at, count + 1

    def release(self, tenant: str) -> None:
        """End a reservation, used or not."""
        self._pending[tenant] -= 1
        if not self._pending[tenant]:
            del self._pending[tenant]

    async def _heads(self, tenant: str, *, fresh: bool = False) -> int:
        """Stored and reserved heads, without the one that is asked about."""
        at, count = self._counts.get(tenant, (-_COUNT_AGE_MAX_S, 0))
        if fresh or self._clock() - at >= _COUNT_AGE_MAX_S:
            count = await self._count(tenant)
            if len(self._counts) >= _TENANTS_MAX:
                self._counts.clear()
            self._counts[tenant] = self._clock(), count
        return count + self._pending[tenant] - 1
