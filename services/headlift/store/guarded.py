"""A blob store behind a breaker: once it is out, callers hear so at once instead of waiting for it."""

from __future__ import annotations

from collections.abc import Iterator

from headlift.store.blobs import BlobStore, Durability, Entry, Seen, kind_of, unseen
from headlift.store.breaker import Breaker


class GuardedStore:
    """A BlobStore that refuses at once, with StoreError, while its breaker is open."""

    def __init__(self, inner: BlobStore, breaker: Breaker, *, seen: Seen = unseen) -> None:
        """``seen`` hears of reads; under a TieredStore leave that to it."""
        self._inner, self._seen = inner, seen
        self.breaker = breaker

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.DURABLE) -> None:
        """See BlobStore.put."""
        self.breaker.run(lambda: self._inner.put(key, blob, durability=durability))
        self._seen(self.breaker.tier, kind_of(key), "written", len(blob))

    def get(self, key: str) -> bytes | None:
        """See BlobStore.get."""
        blob = self.breaker.run(lambda: self._inner.get(key))
        self._seen(self.breaker.tier, kind_of(key), "miss" if blob is None else "hit", len(blob or b""))
        return blob

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """See BlobStore.get_again."""
        self._seen(self.breaker.tier, kind_of(key), "corrupt", len(damaged))
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
