"""A blob store seen through the envelope: payloads in, payloads out, damage counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from headlift.errors import CorruptBlobError
from headlift.store.blobs import BlobStore
from headlift.store.envelope import seal, unseal

_log = logging.getLogger(__name__)


class SealedStore:
    """Seals what goes into a BlobStore and checks what comes out.

    Attributes:
        corrupt_count: Damaged blobs that were met so far.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self.corrupt_count = 0
        self._lock = threading.Lock()

    def put(self, key: str, payload: bytes, codec: str) -> None:
        """Keep ``payload``; see BlobStore.put."""
        self.blobs.put(key, seal(payload, codec))

    def get(self, key: str, codec: str) -> bytes | None:
        """The payload, or None where there is none.

        Raises:
            CorruptBlobError: The blob was damaged; it has been counted.
        """
        blob = self.blobs.get(key)
        if blob is None:
            return None
        try:
            return unseal(blob, codec)
        except CorruptBlobError:
            with self._lock:
                self.corrupt_count += 1
            _log.error("damaged blob %s", key)
            raise

    def get_whole(self, key: str, codec: str) -> bytes | None:
        """As ``get``, but a damaged blob is removed and counts as none: for what can be computed again."""
        try:
            return self.get(key, codec)
        except CorruptBlobError:
            self.blobs.delete(key)
            return None

    def exists(self, key: str) -> bool:
        """Whether there is a blob, damaged or not."""
        return self.blobs.exists(key)

    def delete(self, key: str) -> bool:
        """Forget a blob; whether there was one."""
        return self.blobs.delete(key)

    def delete_all(self, prefix: str) -> int:
        """Forget every blob below ``prefix``; how many there were."""
        return sum(self.blobs.delete(key) for key in list(self.blobs.list(prefix)))

    def list(self, prefix: str) -> Iterator[str]:
        """Every key below ``prefix``, in order."""
        return self.blobs.list(prefix)
