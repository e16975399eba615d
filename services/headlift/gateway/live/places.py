"""How many sessions there are, and how many there may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from headlift.errors import OverloadedError
from headlift.gateway.live.options import LiveLimits

_RETRY_S = 5.0


class Places:
    """Places for sessions, per server and per tenant."""

    def __init__(self, limits: LiveLimits) -> None:
        self._limits = limits
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Sessions now."""
        return self._taken.total()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """A place for as long as the block lasts. OverloadedError: there is none."""
        for count, limit, whose in (
            (self.taken, self._limits.sessions, "This server has"),
            (self._taken[tenant], self._limits.tenant_sessions, f"tenants/{tenant} has"),
        ):
            if count >= limit:
                raise OverloadedError(
                    f"{whose} {count} live sessions, which is the limit; end one, or try later.", retry_after_s=_RETRY_S
                )
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]
