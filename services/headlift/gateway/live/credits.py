"""Answers that a caller allows, and how fast."""

from __future__ import annotations

import asyncio

from headlift.errors import InvalidInputError
from headlift.gateway.live.options import CREDIT_MAX


class Credits:
    """A purse of answers."""

    def __init__(self, initial: int) -> None:
        self.left = initial

    def add(self, count: int) -> None:
        """Allow further answers. InvalidInputError: none, or more than there may ever be."""
        if not 1 <= count <= CREDIT_MAX:
            raise InvalidInputError(
                f"credit.count is {count}; it must lie in 1..{CREDIT_MAX}.", reason="BAD_CREDIT", field="credit.count"
            )
        self.left = min(self.left + count, CREDIT_MAX)

    def spend(self, count: int) -> None:
        """Pay for answers."""
        self.left -= count


class Pace:
    """At most so many answers a second."""

    def __init__(self, max_fps: float) -> None:
        self._period_s = 1.0 / max_fps if max_fps else 0.0
        self._due = 0.0

    async def wait(self) -> None:
        """Until the next answer may be made."""
        delay = self._due - asyncio.get_running_loop().time()
        if delay > 0:
            await asyncio.sleep(delay)

    def made(self) -> None:
        """An answer was made."""
        # From when it was due, so that waking late does not slow the stream down; after a pause it begins anew.
        now = asyncio.get_running_loop().time()
        self._due = (self._due if now - self._due < self._period_s else now) + self._period_s
