"""What a blob store is: the five verbs that files, memory, Redis and S3 all offer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from headlift.errors import StoreError

_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}(/[a-z0-9][a-z0-9_.-]{0,127}){0,15}")


class BlobStore(Protocol):
    """Blobs under keys. Keys are lower-case paths such as ``tenants/acme/heads/h1/record``.

    Every method may raise StoreError; ``put`` is all or nothing, and a ``get`` after it sees the new blob.
    """

    def put(self, key: str, blob: bytes) -> None:
        """Keep ``blob`` under ``key``, in place of what was there. StoreFullError: no space, nothing written."""
        ...

    def get(self, key: str) -> bytes | None:
        """The blob, or None where there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        ...

    def delete(self, key: str) -> bool:
        """Forget a blob; whether there was one."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Every key below ``prefix`` (a whole path segment or several, without a slash at the end), in order."""
        ...


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
