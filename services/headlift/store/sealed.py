"""A blob store of payloads: sealed into envelopes when written, checked and mended when read."""

from __future__ import annotations

import contextlib
import logging
import threading

from headlift.errors import CorruptBlobError, StoreError
from headlift.store.blobs import BlobStore, Durability, kind_of
from headlift.store.envelope import seal, unseal
from headlift.telemetry.tracing import span

_log = logging.getLogger(__name__)
_ATTEMPTS = 3  # of reading one blob before its damage is believed


class SealedStore:
    """Payloads in a BlobStore.

    ``exists``, ``delete``, ``delete_all``, ``list`` and ``entries`` are the BlobStore's own.

    Attributes:
        blobs: The BlobStore.
        corrupt_count: Damaged blobs that were found so far.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self.exists, self.delete, self.delete_all = blobs.exists, blobs.delete, blobs.delete_all
        self.list, self.entries = blobs.list, blobs.entries
        self.corrupt_count = 0
        self._lock = threading.Lock()

    def put(self, key: str, payload: bytes, codec: str, durability: Durability = Durability.DURABLE) -> None:
        """Keep ``payload``; see BlobStore.put."""
        with span("store write", kind=kind_of(key), bytes=len(payload), durability=durability.value):
            self.blobs.put(key, seal(payload, codec), durability=durability)

    def get(self, key: str, codec: str) -> bytes | None:
        """The payload, or None where there is none; a damaged blob is mended from any other copy that the store has.

        Raises:
            CorruptBlobError: The blob was damaged, and so was every other copy; it has been counted.
        """
        with span("store read", kind=kind_of(key)) as reading:
            payload = self._get(key, codec)
            reading.set_attribute("found", payload is not None)
            return payload

    def _get(self, key: str, codec: str) -> bytes | None:
        blob = self.blobs.get(key)
        for attempt in range(_ATTEMPTS):
            if blob is None:
                return None
            try:
                payload = unseal(blob, codec)
            except CorruptBlobError:
                self._count(key)
                blob = self.blobs.get_again(key, blob)
                if blob is None or attempt == _ATTEMPTS - 1:
                    raise
            else:
                if attempt:
                    self._mend(key, blob)
                return payload
        return None

    def get_whole(self, key: str, codec: str) -> bytes | None:
        """As ``get``, but a damaged blob is removed and counts as none: for what can be computed again."""
        try:
            return self.get(key, codec)
        except CorruptBlobError:
            self.blobs.delete(key)
            return None

    def _count(self, key: str) -> None:
        with self._lock:
            self.corrupt_count += 1
        _log.error("damaged blob %s", key)

    def _mend(self, key: str, blob: bytes) -> None:
        with contextlib.suppress(StoreError):  # this read has succeeded; the next one may mend the blob
            self.blobs.put(key, blob)
            _log.warning("mended %s from another copy", key)
