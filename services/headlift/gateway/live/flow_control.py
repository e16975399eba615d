"""Flow control: how many answers a caller allows, and how fast."""

from __future__ import annotations

import asyncio

from headlift.errors import InvalidInputError
from headlift.gateway.live.options import CREDIT_MAX


class FlowControl:
    """Credits of a session: each answer costs one."""

    def __init__(self, initial: int) -> None:
        self.credits = initial

    def grant(self, count: int) -> None:
        """Allow further answers, up to ``CREDIT_MAX`` in all. InvalidInputError: ``count`` is not in 1..CREDIT_MAX."""
        if not 1 <= count <= CREDIT_MAX:
            raise InvalidInputError(
                f"credit.count is {count}; it must lie in 1..{CREDIT_MAX}.", reason="BAD_CREDIT", field="credit.count"
            )
        self.credits = min(self.credits + count, CREDIT_MAX)

    def spend(self, count: int) -> None:
        """Pay for answers."""
        self.credits -= count


class Pacer:
    """At most ``max_fps`` answers a second; 0 is no limit."""

    def __init__(self, max_fps: float) -> None:
        self._period_s = 1.0 / max_fps if max_fps else 0.0
        self._due = 0.0

    async def wait(self) -> None:
        """Wait until the next answer may be made."""
        delay = self._due - asyncio.get_running_loop().time()
        if delay > 0:
            await asyncio.sleep(delay)

    def answered(self) -> None:
        """An answer was made: the next one is due a period later."""
        # From when it was due, so that waking late does not slow the stream down; after a pause it begins anew.
        now = asyncio.get_running_loop().time()
        self._due = (self._due if now - self._due < self._period_s else now) + self._period_s
