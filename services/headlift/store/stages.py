"""Cache of what stages computed, under a key that hashes all that it depends on.

Everything made from one portrait lies below ``tenants/{tenant}/derived/{input_sha256}/``, so that deleting a head
finds all of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from headlift.errors import StoreError
from headlift.store.blobs import Durability
from headlift.store.sealed import SealedStore
from headlift.store.single_flight import SingleFlight

if TYPE_CHECKING:  # Redis's driver is imported where it is used
    from headlift.store.leases import Leases

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CODE = 2  # raised whenever a stage's code gives another result from the same weights and options


@dataclass(frozen=True)
class StageKey:
    """All that a stage's result depends on, with the code's own number."""

    tenant: str
    input_sha256: str  # of the portrait's bytes, hexadecimal
    stage: str
    options: Mapping[str, str | int | float | bool | None]
    weights_hash: str  # empty for stages without a network

    def path(self) -> str:
        """Where the result lies in the store."""
        text = json.dumps([_CODE, self.stage, self.weights_hash, dict(self.options)], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return f"{derived_prefix(self.tenant, self.input_sha256)}/{self.stage}-{digest}"


def derived_prefix(tenant: str, input_sha256: str) -> str:
    """Prefix of everything that was computed from one portrait."""
    return f"tenants/{tenant}/derived/{input_sha256}"


class StageCache:
    """A cache in the store; its failures never fail a request."""

    def __init__(
        self,
        store: SealedStore,
        *,
        enabled: bool = True,
        leases: Leases | None = None,
        keeps: Callable[[], bool] = lambda: True,
    ) -> None:
        """With ``leases``, ``once`` holds across processes too; nothing is put while ``keeps`` is False."""
        self._store = store
        self._enabled, self._keeps = enabled, keeps
        self._flights: SingleFlight[Any] = SingleFlight(leases)

    def get(self, key: StageKey, codec: str) -> bytes | None:
        """The kept result; None where there is none, or it is damaged, or the store does not answer."""
        return self.read(key.path(), codec)

    def read(self, path: str, codec: str) -> bytes | None:
        """As ``get``, for a result whose ``StageKey.path()`` was noted."""
        if not self._enabled:
            return None
        try:
            return self._store.get_whole(path, codec)
        except StoreError as error:
            _log.warning("stage cache cannot be read: %s", error.message)
            return None

    def put(self, key: StageKey, payload: bytes, codec: str, durability: Durability = Durability.DURABLE) -> None:
        """Keep a result; a store that cannot take it is only logged."""
        if not self._enabled or not self._keeps():
            return
        try:
            self._store.put(key.path(), payload, codec, durability)
        except StoreError as error:
            _log.warning("stage cache cannot be written: %s", error.message)

    def once(
        self,
        key: StageKey,
        recall: Callable[[], T | None],
        compute: Callable[[], T],
        check: Callable[[], None] = lambda: None,
    ) -> T:
        """What ``recall`` finds, or else ``compute`` makes and keeps: once for all who ask for ``key`` meanwhile.

        ``check`` raises once this caller has gone; the others go on without it. Without a cache every caller
        computes.
        """
        if not self._enabled:
            return compute()
        found = recall()
        return cast(T, self._flights.run(key.path(), recall, compute, check)) if found is None else found

    def forget(self, tenant: str, input_sha256: str) -> None:
        """Delete everything that was computed from one portrait; what an outage leaves, retention removes later."""
        try:
            self._store.delete_all(derived_prefix(tenant, input_sha256))
        except StoreError as error:
            _log.warning("what was computed from a portrait stays for now: %s", error.message)
