"""Log of answered requests: which ``request_id`` made which head."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from headlift.store.blobs import Durability
from headlift.store.sealed import SealedStore

_CODEC = "json"


@dataclass(frozen=True)
class RequestRecord:
    """A request that was answered."""

    body_sha256: str
    head_name: str
    time_s: float  # seconds since 1970


class RequestLog:
    """Answered requests, kept for a while in the store; survives a restart."""

    def __init__(self, store: SealedStore, *, keep_s: float, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keep_s = keep_s
        self._clock = clock

    def get(self, tenant: str, request_id: str) -> RequestRecord | None:
        """The record, or None where there is none or it is too old."""
        payload = self._store.get_whole(request_key(tenant, request_id), _CODEC)
        if payload is None:
            return None
        record = RequestRecord(**json.loads(payload))
        return record if self._clock() - record.time_s < self._keep_s else None

    def put(
        self,
        tenant: str,
        request_id: str,
        body_sha256: str,
        head_name: str,
        durability: Durability = Durability.DURABLE,
    ) -> None:
        """Store an answer, as durably as the head that it names."""
        record = {"body_sha256": body_sha256, "head_name": head_name, "time_s": self._clock()}
        self._store.put(request_key(tenant, request_id), json.dumps(record).encode(), _CODEC, durability)


def request_key(tenant: str, request_id: str) -> str:
    """Key of a record; deleting the head that it names deletes it too."""
    return f"tenants/{tenant}/requests/{request_id.lower()}"
