"""What the stages computed, kept under a key that hashes all that it depends on.

Everything made from one portrait lies below ``tenants/{tenant}/derived/{input_sha256}/``, so that deleting a head
finds all of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from headlift.errors import StoreError
from headlift.store.sealed import SealedStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageKey:
    """All that a stage's result depends on."""

    tenant: str
    input_sha256: str  # of the portrait's bytes, hexadecimal
    stage: str
    options: Mapping[str, str | int | float | bool | None]
    weights_hash: str  # empty for stages without a network

    def path(self) -> str:
        """Where the result lies in the store."""
        text = json.dumps([self.stage, self.weights_hash, dict(self.options)], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return f"{derived_prefix(self.tenant, self.input_sha256)}/{self.stage}-{digest}"


def derived_prefix(tenant: str, input_sha256: str) -> str:
    """Below this lies everything that was computed from one portrait."""
    return f"tenants/{tenant}/derived/{input_sha256}"


class StageCache:
    """A cache in the store; never the reason that a request fails."""

    def __init__(self, store: SealedStore, *, enabled: bool = True) -> None:
        self._store = store
        self._enabled = enabled

    def get(self, key: StageKey, codec: str) -> bytes | None:
        """The kept result; None where there is none, or it is damaged, or the store does not answer."""
        if not self._enabled:
            return None
        try:
            return self._store.get_whole(key.path(), codec)
        except StoreError as error:
            _log.warning("stage cache cannot be read: %s", error.message)
            return None

    def put(self, key: StageKey, payload: bytes, codec: str) -> None:
        """Keep a result; a store that cannot take it is only logged."""
        if not self._enabled:
            return
        try:
            self._store.put(key.path(), payload, codec)
        except StoreError as error:
            _log.warning("stage cache cannot be written: %s", error.message)

    def forget(self, tenant: str, input_sha256: str) -> None:
        """Remove everything that was computed from one portrait."""
        self._store.delete_all(derived_prefix(tenant, input_sha256))
