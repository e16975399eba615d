"""How many heads a tenant has, without counting them at every call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable

from headlift.errors import QuotaError

_KNOWN_FOR_S = 30.0
_TENANTS_MAX = 10_000


class StoredHeads:
    """Counts heads, and those about to be made.

    Within one server the quota is exact. Other servers' heads are seen within half a minute, so that a tenant who
    creates on several at once may exceed its quota by what the others make in that time.
    """

    def __init__(self, count: Callable[[str], Awaitable[int]], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._known: dict[str, tuple[float, int]] = {}
        self._pending: Counter[str] = Counter()

    async def reserve(self, tenant: str, heads_max: int) -> None:
        """Keep room for one more head until ``release``. QuotaError: there is none."""
        self._pending[tenant] += 1
        try:
            # A number that is remembered may have shrunk since: nobody is refused by it.
            if await self._heads(tenant) < heads_max or await self._heads(tenant, again=True) < heads_max:
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
        """A head was made in a reserved room."""
        if tenant in self._known:
            at, count = self._known[tenant]
            self._known[tenant] = at, count + 1

    def release(self, tenant: str) -> None:
        """The room is used, or not needed."""
        self._pending[tenant] -= 1
        if not self._pending[tenant]:
            del self._pending[tenant]

    async def _heads(self, tenant: str, *, again: bool = False) -> int:
        """Heads that there are and will be, without the one that is asked about."""
        at, count = self._known.get(tenant, (-_KNOWN_FOR_S, 0))
        if again or self._clock() - at >= _KNOWN_FOR_S:
            count = await self._count(tenant)
            if len(self._known) >= _TENANTS_MAX:
                self._known.clear()
            self._known[tenant] = self._clock(), count
        return count + self._pending[tenant] - 1
