"""Heads in the store: records, Gaussians, further parts and links.

Below ``tenants/{tenant}/heads/{id}/`` lie ``gaussians``, further parts, ``links`` and ``record``, written in this
order: a head exists when its record does, so a crash leaves no incomplete head. Gaussians are
stored in the wire codec (1.07 MB and 67.8 dB for 65,536, ``facts/performance.md``), and what is served is always what
the store holds: an answer does not depend on whether the head was still in memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from headlift.errors import CorruptBlobError, NotFoundError, StoreError
from headlift.model.types import Gaussians
from headlift.store.blobs import Durability
from headlift.store.recent_heads import RecentHeads
from headlift.store.requests import request_key
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageKey, derived_prefix
from headlift.v1 import head_pb2

_log = logging.getLogger(__name__)
GAUSSIANS_CODEC = "wire"
_RECORD, _GAUSSIANS, _LINKS = "record", "gaussians", "links"


@dataclass(frozen=True)
class HeadName:
    """The two halves of ``tenants/{tenant}/heads/{head}``."""

    tenant: str
    head: str

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/heads/{self.head}"


class HeadStore:
    """Heads of all tenants."""

    def __init__(
        self,
        store: SealedStore,
        *,
        unpack: Callable[[bytes], Gaussians],
        memory_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``unpack`` reads the wire codec; ``memory_bytes`` bounds the heads kept unpacked."""
        self._store = store
        self._unpack = unpack
        self._recent = RecentHeads(memory_bytes)
        self._clock = clock

    def new_name(self, tenant: str) -> HeadName:
        """An unused name."""
        return HeadName(tenant, _new_id(self._clock()))

    def create(
        self,
        tenant: str,
        head: head_pb2.Head,
        gaussians: bytes,
        *,
        copy: StageKey | None = None,
        portrait: StageKey | None = None,
        parts: Mapping[str, bytes] | None = None,
        request_id: str = "",
        durability: Durability = Durability.DURABLE,
        name: HeadName | None = None,
    ) -> head_pb2.Head:
        """Store a head and return its record, with name, time and size filled in.

        Args:
            tenant: Owner.
            head: Its record, as far as it is known.
            gaussians: The head itself, in the wire codec.
            copy: Where the stage cache keeps the same bytes, to mend damage with.
            portrait: Where the stage cache keeps its portrait.
            parts: Further payloads by name; see ``part``.
            request_id: The request that made it, whose record is deleted with the head.
            durability: What is promised once this returns; a HOT head may vanish.
            name: As ``new_name`` gave it; a new one where it is None.

        Raises:
            StoreError: Nothing was stored.
        """
        now = self._clock()
        name = name or self.new_name(tenant)
        record = head_pb2.Head()
        record.CopyFrom(head)
        record.name, record.size_bytes = str(name), len(gaussians)
        record.create_time.FromNanoseconds(int(now * 1e9))
        begin = time.perf_counter()
        links = {
            "copy": copy.path() if copy else "",
            "portrait": portrait.path() if portrait else "",
            "request_id": request_id,
        }
        try:
            self._store.put(f"{name}/{_GAUSSIANS}", gaussians, GAUSSIANS_CODEC, durability)
            for part, payload in (parts or {}).items():
                self._store.put(f"{name}/{part}", payload, part, durability)
            self._store.put(f"{name}/{_LINKS}", json.dumps(links).encode(), "json", durability)
            # The record itself comes too late to be timed; it is a hundredth of the Gaussians.
            record.stage_timings.add(stage="store", duration_ms=(time.perf_counter() - begin) * 1e3)
            self._store.put(f"{name}/{_RECORD}", record.SerializeToString(), "head", durability)
        except Exception:
            with contextlib.suppress(StoreError):  # blobs that stay have no record: sweep() removes them
                self._store.delete_all(str(name))
            raise
        self._recent.put(str(name), self._unpack(gaussians))
        return record

    def get(self, name: HeadName) -> head_pb2.Head:
        """The record of a head.

        Raises:
            NotFoundError: There is no such head.
            CorruptBlobError: Its record is damaged.
        """
        payload = self._store.get(f"{name}/{_RECORD}", "head")
        if payload is None:
            raise NotFoundError(
                f"{name} does not exist; ListHeads names those that do.", metadata={"resource": str(name)}
            )
        return head_pb2.Head.FromString(payload)

    def part(self, name: HeadName, part: str) -> bytes | None:
        """A further part of a head; None where it has none of this name. CorruptBlobError: it is damaged."""
        return self._store.get(f"{name}/{part}", part)

    def portrait_path(self, name: HeadName) -> str:
        """Where the stage cache kept the portrait of a head; empty where that was not noted."""
        return self._links(name).get("portrait", "")

    def packed(self, name: HeadName) -> bytes:
        """A head's Gaussians in the wire codec. Raises as ``get``."""
        self.get(name)
        try:
            payload = self._store.get(f"{name}/{_GAUSSIANS}", GAUSSIANS_CODEC)
        except CorruptBlobError:
            payload = self._mend(name)
            if payload is None:
                raise
        if payload is None:
            raise NotFoundError(
                f"{name} does not exist; ListHeads names those that do.", metadata={"resource": str(name)}
            )
        return payload

    def gaussians(self, name: HeadName) -> Gaussians:
        """A head, from memory where it is there. Raises as ``get``."""
        head = self._recent.get(str(name))
        # Even then the record must exist: another process may have deleted the head.
        if head is None or not self.exists(name):
            head = self._unpack(self.packed(name))
            self._recent.put(str(name), head)
        return head

    def list(self, tenant: str, *, after: str = "", limit: int) -> list[head_pb2.Head]:
        """Up to ``limit`` heads whose id sorts behind ``after``, oldest first; damaged records are left out."""
        found: list[head_pb2.Head] = []
        for head in self._ids(tenant):
            if head <= after:
                continue
            try:
                found.append(self.get(HeadName(tenant, head)))
            except (NotFoundError, CorruptBlobError):
                continue
            if len(found) == limit:
                break
        return found

    def delete(self, name: HeadName) -> None:
        """Remove a head and everything that was derived from its portrait.

        Raises:
            NotFoundError: There is no such head.
        """
        try:
            input_sha256 = self.get(name).input_sha256
        except CorruptBlobError:
            input_sha256 = ""
        links = self._links(name)
        # The record goes first: without it the head does not exist, even if a crash leaves the rest.
        self._store.delete(f"{name}/{_RECORD}")
        self._recent.drop(str(name))
        if input_sha256:
            self._store.delete_all(derived_prefix(name.tenant, input_sha256))
        self._store.delete_all(renders_prefix(name))
        if links.get("request_id"):
            self._store.delete(request_key(name.tenant, links["request_id"]))
        self._store.delete_all(str(name))

    def exists(self, name: HeadName) -> bool:
        """Whether there is such a head."""
        return self._store.exists(f"{name}/{_RECORD}")

    def sweep(self, older_than_s: float = 3600.0) -> int:
        """Delete blobs of heads without a record, which crashes left; how many such heads there were.

        Younger ones than ``older_than_s`` stay: another process may be writing them.
        """
        parts: dict[str, set[str]] = {}
        for key in self._store.list("tenants"):
            prefix, _, blob = key.rpartition("/")
            if "/heads/" in prefix:
                parts.setdefault(prefix, set()).add(blob)
        limit_ms = (self._clock() - older_than_s) * 1e3
        lost = [p for p, blobs in parts.items() if _RECORD not in blobs and created_ms(p) < limit_ms]
        for prefix in lost:
            self._store.delete_all(prefix)
        return len(lost)

    def _mend(self, name: HeadName) -> bytes | None:
        """Replace a damaged blob by the stage cache's copy."""
        copy = self._links(name).get("copy")
        payload = self._store.get_whole(copy, GAUSSIANS_CODEC) if copy else None
        if payload is not None:
            self._store.put(f"{name}/{_GAUSSIANS}", payload, GAUSSIANS_CODEC)
            _log.warning("mended %s from the stage cache", name)
        return payload

    def _links(self, name: HeadName) -> dict[str, str]:
        payload = self._store.get_whole(f"{name}/{_LINKS}", "json")
        return json.loads(payload) if payload else {}

    def _ids(self, tenant: str) -> Iterator[str]:
        for key in self._store.list(f"tenants/{tenant}/heads"):
            *_, head, blob = key.split("/")
            if blob == _RECORD:
                yield head


def renders_prefix(name: HeadName) -> str:
    """Prefix of a head's cached pictures."""
    return f"tenants/{name.tenant}/renders/{name.head}"


def created_ms(name: str) -> int:
    """When a head was created, milliseconds since 1970, from its id; 0 for other ids."""
    stamp = name.rsplit("/", 1)[-1][1:13]
    return int(stamp, 16) if re.fullmatch("[0-9a-f]{12}", stamp) else 0


def _new_id(now_s: float) -> str:
    """An id that sorts by time of creation and cannot be guessed: milliseconds in hexadecimal, then 80 random bits."""
    return f"h{int(now_s * 1e3):012x}{secrets.token_hex(10)}"
