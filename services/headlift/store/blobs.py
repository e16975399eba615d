"""The interface of blob stores: files, Redis, S3, and the tiers over them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from headlift.errors import StoreError

_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}(/[a-z0-9][a-z0-9_.-]{0,127}){0,15}")


class Durability(Enum):
    """What a ``put`` promises once it returns."""

    DURABLE = "durable"  # survives the loss of every cache
    HOT = "hot"  # may vanish at any moment, in exchange for speed; where there is no hot tier, as DURABLE


@dataclass(frozen=True)
class Entry:
    """One line of a listing."""

    key: str
    time_s: float  # when it was written, seconds since 1970


class BlobStore(Protocol):
    """Blobs under keys. Keys are lower-case paths such as ``tenants/acme/heads/h1/record``.

    Every method may raise StoreError; ``put`` is all or nothing, and a ``get`` after it sees the new blob. Two
    concurrent puts of different blobs under one key leave either of them. A key is not also a folder: whoever puts
    ``a`` does not put ``a/b``.
    """

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.DURABLE) -> None:
        """Keep ``blob`` under ``key``, in place of what was there. StoreFullError: no space, nothing written."""
        ...

    def get(self, key: str) -> bytes | None:
        """The blob, or None where there is none."""
        ...

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """Another copy of a blob that came back ``damaged``, or None where no copy differs from it.

        A copy that is found to be damaged where it lies is removed if there may be a better one elsewhere.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        ...

    def delete(self, key: str) -> bool:
        """Delete a blob; whether there was one."""
        ...

    def delete_all(self, prefix: str) -> int:
        """Delete every blob below ``prefix``; how many there were."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every key below ``prefix`` (whole path segments, without a slash at the end), in the order of its bytes."""
        ...

    def entries(self, prefix: str) -> Iterator[Entry]:
        """As ``list``, with the time of writing."""
        ...


# Called on every read and write: tier ("hot" or "durable"), kind of blob, outcome ("hit", "miss", "corrupt",
# "written"), and bytes.
OnAccess = Callable[[str, str, str, int], None]


def ignore_access(tier: str, kind: str, outcome: str, size_bytes: int) -> None:
    """Do nothing: the default hook."""


def check_key(key: str) -> str:
    """Return ``key``, or refuse one that could leave the store's own directory or collide on any backend.

    Raises:
        StoreError: The key is not made of lower-case segments that begin with a letter or digit.
    """
    if not _KEY.fullmatch(key):
        raise StoreError(
            f"{key[:80]!r} is no key: segments of a-z, 0-9, '_', '-', '.', joined by '/'.", reason="BAD_KEY"
        )
    return key


def kind_of(key: str) -> str:
    """The kind of a blob, for counters: the stage of a derived blob, the last segment of a head's, else its folder.

    A small set of words, whatever the keys are.
    """
    parts = key.split("/")
    if parts[0] != "tenants" or len(parts) < 4:
        return "other"
    if parts[2] == "heads":
        return parts[-1]
    return parts[-1].rpartition("-")[0] if parts[2] == "derived" else parts[2].removesuffix("s")
