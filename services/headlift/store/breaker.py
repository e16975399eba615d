"""A breaker in front of a tier: what does not answer is asked once, then skipped, and tried again in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from headlift.errors import StoreError

T = TypeVar("T")
_log = logging.getLogger(__name__)
_OUTAGES = {"STORE_UNAVAILABLE", "STORE_REFUSED"}  # reasons of errors that say something about the whole tier

# Hears of a tier whether its breaker is open.
Changed = Callable[[str, bool], None]


def unchanged(tier: str, is_open: bool) -> None:
    """Nobody wants to know."""


class Breaker:
    """Closed while a tier answers; open from the ``failures_max``-th failure in a row until a trial succeeds.

    Trials run on a thread of their own, ``first_s`` after the breaker opened and then at doubling distances up to
    ``longest_s``: no request ever pays for one.
    """

    def __init__(
        self,
        tier: str,
        revive: Callable[[], object],
        *,
        failures_max: int = 1,
        first_s: float = 0.25,
        longest_s: float = 2.0,
        changed: Changed = unchanged,
    ) -> None:
        """``revive`` must raise StoreError unless the tier may be used again; ``changed`` hears of open and closed."""
        self.tier = tier
        self._revive = revive
        self._failures_max = failures_max
        self._first_s, self._longest_s = first_s, longest_s
        self._changed = changed
        self._lock = threading.Lock()
        self._failures = 0
        self._open = self._trying = False
        self._ended = threading.Event()
        changed(tier, False)

    @property
    def is_open(self) -> bool:
        """Whether the tier is being skipped."""
        return self._open

    def run(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns.

        Raises:
            StoreError: The breaker is open, and nothing was asked; or ``ask`` raised it.
        """
        if self._open:
            raise StoreError(f"The {self.tier} store does not answer; it is being tried again. Ask later.")
        try:
            result = ask()
        except StoreError as error:
            if error.reason in _OUTAGES:
                self._fail(error)
            raise
        self._failures = 0
        return result

    def iterate(self, ask: Callable[[], Iterator[T]]) -> Iterator[T]:
        """As ``run``, for what comes one by one."""
        items = self.run(ask)
        while True:
            try:
                yield self.run(lambda: next(items))
            except StopIteration:
                return

    def trip(self) -> None:
        """Open now; the first trial follows at once."""
        self._open_up(0.0)

    def close(self) -> None:
        """End the trials; an open breaker stays open."""
        self._ended.set()

    def _fail(self, error: StoreError) -> None:
        with self._lock:
            self._failures += 1
            if self._open or self._failures < self._failures_max:
                return
        _log.error("the %s store is skipped from now on: %s", self.tier, error.message)
        self._open_up(self._first_s)

    def _open_up(self, wait_s: float) -> None:
        with self._lock:
            if self._open:
                return
            starts, self._open, self._trying = not self._trying, True, True
        self._changed(self.tier, True)
        if starts:
            threading.Thread(target=self._try_again, args=(wait_s,), name=f"{self.tier}-breaker", daemon=True).start()

    def _try_again(self, wait_s: float) -> None:
        while not self._ended.wait(wait_s):
            wait_s = min(max(2 * wait_s, self._first_s), self._longest_s)
            if self._revived() and self._closed():
                self._changed(self.tier, False)
                _log.warning("the %s store is used again", self.tier)
                return

    def _closed(self) -> bool:
        """Close, and whether it stayed so."""
        with self._lock:
            self._failures, self._open = 0, False
        # Once more: whoever still saw it open, after the trial had begun, may have left something for it to do.
        alive = self._revived()
        with self._lock:
            self._open = self._open or not alive
            self._trying = self._open
            return not self._open

    def _revived(self) -> bool:
        try:
            self._revive()
        except StoreError:
            return False
        except Exception:
            _log.exception("trying the %s store failed in a way that was not foreseen", self.tier)
            return False
        return True
