"""Circuit breaker of a tier: one that does not answer is skipped, and tried again in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from headlift.errors import StoreError
from headlift.store.blobs import BlobStore, Durability, Entry, OnAccess, ignore_access, kind_of

T = TypeVar("T")
_log = logging.getLogger(__name__)
_OUTAGES = {"STORE_UNAVAILABLE", "STORE_REFUSED"}  # reasons of errors that say something about the whole tier

# Called with a tier, and whether its breaker is open now.
OnChange = Callable[[str, bool], None]


def ignore_change(tier: str, is_open: bool) -> None:
    """Do nothing: the default hook."""


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
        on_change: OnChange = ignore_change,
    ) -> None:
        """``revive`` must raise StoreError unless the tier may be used again; ``on_change``: see OnChange."""
        self.tier = tier
        self._revive = revive
        self._failures_max = failures_max
        self._first_s, self._longest_s = first_s, longest_s
        self._on_change = on_change
        self._lock = threading.Lock()
        self._failures = 0
        self._open = self._trying = False
        self._ended = threading.Event()
        on_change(tier, False)

    @property
    def is_open(self) -> bool:
        """Whether the tier is being skipped."""
        return self._open

    def run(self, ask: Callable[[], T]) -> T:
        """Run ``ask``, and count its failures.

        Raises:
            StoreError: The breaker is open, and ``ask`` was not run; or ``ask`` raised it.
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
        """As ``run``, for an iterator and each of its items."""
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
        self._on_change(self.tier, True)
        if starts:
            threading.Thread(target=self._try_again, args=(wait_s,), name=f"{self.tier}-breaker", daemon=True).start()

    def _try_again(self, wait_s: float) -> None:
        while not self._ended.wait(wait_s):
            wait_s = min(max(2 * wait_s, self._first_s), self._longest_s)
            if self._revived() and self._try_closing():
                self._on_change(self.tier, False)
                _log.warning("the %s store is used again", self.tier)
                return

    def _try_closing(self) -> bool:
        """Close; whether it stayed so."""
        with self._lock:
            self._failures, self._open = 0, False
        # Once more: a writer that saw it open after the trial had begun may have left a tombstone or a stale key.
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


class BreakerStore:
    """A BlobStore that refuses at once, with StoreError, while its breaker is open."""

    def __init__(self, inner: BlobStore, breaker: Breaker, *, on_access: OnAccess = ignore_access) -> None:
        """``on_access``: see OnAccess; under a TieredStore leave that to it."""
        self._inner, self._on_access = inner, on_access
        self.breaker = breaker

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.DURABLE) -> None:
        """See BlobStore.put."""
        self.breaker.run(lambda: self._inner.put(key, blob, durability=durability))
        self._on_access(self.breaker.tier, kind_of(key), "written", len(blob))

    def get(self, key: str) -> bytes | None:
        """See BlobStore.get."""
        blob = self.breaker.run(lambda: self._inner.get(key))
        self._on_access(self.breaker.tier, kind_of(key), "miss" if blob is None else "hit", len(blob or b""))
        return blob

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """See BlobStore.get_again."""
        self._on_access(self.breaker.tier, kind_of(key), "corrupt", len(damaged))
        return self.breaker.run(lambda: self._inner.get_again(key, damaged))

    def exists(self, key: str) -> bool:
        """See BlobStore.exists."""
        return self.breaker.run(lambda: self._inner.exists(key))

    def delete(self, key: str) -> bool:
        """See BlobStore.delete."""
        return self.breaker.run(lambda: self._inner.delete(key))

    def delete_all(self, prefix: str) -> int:
        """See BlobStore.delete_all."""
        return self.breaker.run(lambda: self._inner.delete_all(prefix))

    def list(self, prefix: str) -> Iterator[str]:
        """See BlobStore.list."""
        return self.breaker.iterate(lambda: self._inner.list(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See BlobStore.entries."""
        return self.breaker.iterate(lambda: self._inner.entries(prefix))
