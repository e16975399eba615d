"""A hot tier over a durable one.

Reads ask the hot tier first and leave there what they had to fetch. A write is acknowledged once the durable tier
has it, and then goes to the hot tier too; a ``HOT`` write goes to the hot tier alone and may vanish (to the durable
one where the hot tier is out). Nothing that the hot tier does or fails to do makes a request fail.

A deletion that could not reach the hot tier leaves a tombstone in the durable tier, which is replayed before the hot
tier is used again, so that what was deleted while Redis was away does not come back with it.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from headlift.errors import CorruptBlobError, StoreError
from headlift.store.blobs import BlobStore, Durability, Entry, OnAccess, ignore_access, kind_of
from headlift.store.breaker import Breaker
from headlift.store.envelope import is_whole, seal, unseal

if TYPE_CHECKING:  # Redis's driver is imported where it is used
    from headlift.store.redis import RedisStore

_log = logging.getLogger(__name__)
TOMBSTONES, _TOMBSTONE_CODEC = "system/forget", "forget"  # as they stand in stores: not to be renamed
_STALE_MAX = 10_000  # keys, a megabyte or two; beyond, dropping the whole hot tier is cheaper than one by one


class TieredStore:
    """A BlobStore of two tiers."""

    def __init__(
        self,
        hot: RedisStore,
        durable: BlobStore,
        *,
        breaker: Callable[[str, Callable[[], object]], Breaker] = Breaker,
        on_access: OnAccess = ignore_access,
    ) -> None:
        """``breaker`` makes the hot tier's; the caller gives the durable tier its own (BreakerStore)."""
        self._hot, self._durable, self._on_access = hot, durable, on_access
        self._stale: set[str] = set()  # written while the hot tier was out, which may hold something older
        self._lock = threading.Lock()
        self.breaker = breaker("hot", self._revive)
        # Other processes may have left tombstones.
        try:
            self.breaker.run(self._revive)
        except StoreError as error:
            _log.error("the hot store cannot be used yet: %s", error.message)
            self.breaker.trip()

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.DURABLE) -> None:
        """See BlobStore.put."""
        stamp = self._stamp()
        hot_alone = durability is Durability.HOT
        if hot_alone and stamp is not None and self._put_hot(key, blob, stamp):
            return
        self._durable.put(key, blob)
        self._on_access("durable", kind_of(key), "written", len(blob))
        if hot_alone or stamp is None or not self._put_hot(key, blob, stamp):
            self._drop_or_note_stale(key)

    def get(self, key: str) -> bytes | None:
        """See BlobStore.get."""
        kind = kind_of(key)
        stamp = None
        with contextlib.suppress(StoreError):
            blob, stamp = self.breaker.run(lambda: self._hot.get_stamped(key))
            self._on_access("hot", kind, "miss" if blob is None else "hit", len(blob or b""))
            if blob is not None:
                return blob
        blob = self._durable.get(key)
        self._on_access("durable", kind, "miss" if blob is None else "hit", len(blob or b""))
        if blob is not None and stamp is not None and is_whole(blob):
            self._put_hot(key, blob, stamp)
        return blob

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """See BlobStore.get_again: first the tier that was believed, then the other."""
        again = None
        with contextlib.suppress(StoreError):
            again = self.breaker.run(lambda: self._hot.get(key))
        if again is None:
            self._on_access("durable", kind_of(key), "corrupt", len(damaged))
            return self._durable.get_again(key, damaged)
        self._on_access("hot", kind_of(key), "corrupt", len(damaged))
        if again != damaged:
            return again
        with contextlib.suppress(StoreError):
            self.breaker.run(lambda: self._hot.delete(key))
        blob = self._durable.get(key)
        return blob if blob != damaged else self._durable.get_again(key, damaged)

    def exists(self, key: str) -> bool:
        """See BlobStore.exists."""
        with contextlib.suppress(StoreError):
            if self.breaker.run(lambda: self._hot.exists(key)):
                return True
        return self._durable.exists(key)

    def delete(self, key: str) -> bool:
        """See BlobStore.delete: gone from both tiers when this returns, or from the hot one before it is used again."""
        # The durable tier first: a reader that still finds the blob there has begun before the hot tier's tombstone.
        there = self._durable.delete(key)
        try:
            return self.breaker.run(lambda: self._hot.delete(key)) or there
        except StoreError:
            self._leave_tombstone(key)
            return there

    def delete_all(self, prefix: str) -> int:
        """See BlobStore.delete_all and ``delete``."""
        count = self._durable.delete_all(prefix)
        try:
            return max(count, self.breaker.run(lambda: self._hot.delete_all(prefix)))
        except StoreError:
            self._leave_tombstone(prefix)
            return count

    def list(self, prefix: str) -> Iterator[str]:
        """See BlobStore.list; what is in the hot tier alone is named while that tier answers."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See BlobStore.entries."""
        last = ""
        both = heapq.merge(self._durable.entries(prefix), self._hot_entries(prefix), key=lambda entry: entry.key)
        for entry in both:
            if entry.key != last:
                last = entry.key
                yield entry

    def replay_tombstones(self) -> None:
        """Delete from the hot tier what was deleted while it was out, in whichever process.

        Raises:
            StoreError: One of the tiers does not answer.
        """
        for entry in list(self._durable.entries(TOMBSTONES)):
            blob = self._durable.get(entry.key)
            if blob is None:  # another process was faster
                continue
            try:
                prefix = unseal(blob, _TOMBSTONE_CODEC).decode()
            except CorruptBlobError:
                self._hot.clear()
            else:
                self._hot.delete(prefix)
                self._hot.delete_all(prefix)
            self._durable.delete(entry.key)

    def close(self) -> None:
        """End the breaker's trials and close the hot tier's connections."""
        self.breaker.close()
        self._hot.close()

    def _stamp(self) -> int | None:
        with contextlib.suppress(StoreError):
            return self.breaker.run(self._hot.stamp)
        return None

    def _put_hot(self, key: str, blob: bytes, stamp: int) -> bool:
        with contextlib.suppress(StoreError):
            if self.breaker.run(lambda: self._hot.put_stamped(key, blob, stamp)):
                self._on_access("hot", kind_of(key), "written", len(blob))
                return True
        return False

    def _hot_entries(self, prefix: str) -> Iterator[Entry]:
        with contextlib.suppress(StoreError):
            yield from self.breaker.iterate(lambda: self._hot.entries(prefix))

    def _drop_or_note_stale(self, key: str) -> None:
        """What the hot tier holds under ``key`` may be older than what was just written."""
        if not self.breaker.is_open:
            with contextlib.suppress(StoreError):
                self.breaker.run(lambda: self._hot.delete(key))
                return
        with self._lock:
            if len(self._stale) <= _STALE_MAX:  # one more than that, and all of the hot tier is dropped
                self._stale.add(key)

    def _leave_tombstone(self, prefix: str) -> None:
        # In the durable tier, since another process may be the first to reach the hot tier again.
        key = f"{TOMBSTONES}/{int(time.time() * 1000):013d}-{secrets.token_hex(6)}"
        self._durable.put(key, seal(prefix.encode(), _TOMBSTONE_CODEC))

    def _revive(self) -> None:
        """Bring the hot tier up to date; StoreError unless it can be used now."""
        self._hot.probe()
        with self._lock:
            stale, self._stale = self._stale, set()
        try:
            self._drop_stale(stale)
            self.replay_tombstones()
        except BaseException:
            with self._lock:
                self._stale |= stale
            raise

    def _drop_stale(self, stale: set[str]) -> None:
        if len(stale) > _STALE_MAX:
            self._hot.clear()
        else:
            for key in stale:
                self._hot.delete(key)
