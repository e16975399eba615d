"""The hot tier: blobs in Redis, each with a time to live, all within a bound on bytes.

Redis is a cache here: a blob may vanish at any moment. What must not happen is that a deleted blob comes back, from
a reader that fetched it elsewhere before the deletion and stores it after, or from a command that waited in the
socket of a stalled server. So every write carries the time (of Redis' own clock) at which it was begun, and is
refused where its key, or a folder above it, was deleted later than that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis as driver
from redis.backoff import NoBackoff
from redis.retry import Retry

from headlift.errors import InvalidInputError, StoreError, StoreFullError
from headlift.store import redis_scripts as scripts
from headlift.store.blobs import Durability, Entry, check_key

REFUSED = "STORE_REFUSED"  # the server answers, but refuses: wrong keys, missing rights
_PAGE = 500


@dataclass(frozen=True)
class HotLimits:
    """How much the hot tier keeps, and for how long."""

    bytes_max: int = 1 << 30
    tenant_bytes_max: int = 0  # 0: no limit of its own
    keep_s: float = 86_400.0


class RedisStore:
    """A BlobStore whose blobs expire. Safe with many threads and processes at once."""

    def __init__(self, client: driver.Redis, limits: HotLimits | None = None) -> None:
        self._client = client
        self._limits = limits or HotLimits()
        register = client.register_script
        self._put, self._get, self._delete = map(register, (scripts.PUT, scripts.GET, scripts.DELETE))
        self._delete_all, self._list, self._shrink = map(register, (scripts.DELETE_ALL, scripts.LIST, scripts.SHRINK))

    def stamp(self) -> int:
        """Redis' time, microseconds; what a write that begins now must carry."""
        with _as_store_error():
            seconds, micros = self._client.time()
            return int(seconds) * 1_000_000 + int(micros)

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.HOT) -> None:
        """See BlobStore.put; nothing is durable here.

        Raises:
            StoreFullError: The blob is larger than the bound, or Redis has no memory left.
        """
        if not self.put_stamped(key, blob, self.stamp()):
            raise StoreFullError(
                f"A blob of {len(blob)} bytes was not kept by the hot tier: it is over HEADLIFT_HOT_BYTES "
                f"({self._limits.bytes_max}) or HEADLIFT_HOT_TENANT_BYTES, or was deleted meanwhile."
            )

    def put_stamped(self, key: str, blob: bytes, stamp: int) -> bool:
        """Keep a blob that was on its way since ``stamp``; False where it is too large, or was deleted since."""
        check_key(key)
        arguments = (
            key,
            blob,
            max(1, int(self._limits.keep_s * 1000)),
            stamp,
            self._limits.bytes_max,
            self._limits.tenant_bytes_max,
            scripts.WINDOW_US,
        )
        with _as_store_error():
            try:
                return bool(self._run(self._put, *arguments))
            except driver.exceptions.OutOfMemoryError:
                # Redis' own maxmemory is below our bound: evict the least recently used, once.
                self._run(self._shrink, 2 * len(blob))
            try:
                return bool(self._run(self._put, *arguments))
            except driver.exceptions.OutOfMemoryError:
                self.delete(key)  # the old blob must not pass for the new one
                raise

    def get(self, key: str) -> bytes | None:
        """See BlobStore.get."""
        return self.get_stamped(key)[0]

    def get_stamped(self, key: str) -> tuple[bytes | None, int]:
        """The blob, and the stamp for putting one where there is none."""
        check_key(key)
        with _as_store_error():
            stamp, *blob = self._run(self._get, key)
        return (blob[0] if blob else None), int(stamp)

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """See BlobStore.get_again."""
        blob = self.get(key)
        return blob if blob != damaged else None

    def exists(self, key: str) -> bool:
        """See BlobStore.exists."""
        with _as_store_error():
            return bool(self._client.exists(f"{scripts.NAMESPACE}b:{check_key(key)}"))

    def delete(self, key: str) -> bool:
        """See BlobStore.delete."""
        check_key(key)
        with _as_store_error():
            return bool(self._run(self._delete, key, scripts.WINDOW_US))

    def delete_all(self, prefix: str) -> int:
        """See BlobStore.delete_all."""
        check_key(prefix)
        count, met = 0, _PAGE
        with _as_store_error():
            while met >= _PAGE:
                dropped, met = self._run(self._delete_all, prefix, scripts.WINDOW_US, _PAGE)
                count += int(dropped)
        return count

    def list(self, prefix: str) -> Iterator[str]:
        """See BlobStore.list."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See BlobStore.entries."""
        check_key(prefix)
        return self._pages(f"[{prefix}/", f"({prefix}0")  # "0" is the character after "/"

    def clear(self) -> None:
        """Delete every blob of this store; other keys of the same Redis stay."""
        with _as_store_error():
            for key in self._client.scan_iter(match=f"{scripts.NAMESPACE}*", count=1000):
                self._client.unlink(key)

    def probe(self) -> None:
        """Check that the tier can be used, on a new connection.

        Raises:
            StoreError: It cannot; the message says why.
        """
        with _as_store_error():
            self._client.connection_pool.disconnect(inuse_connections=False)
            self._client.ping()
            memory: dict[str, Any] = {}
            with contextlib.suppress(driver.exceptions.NoPermissionError):
                memory = self._client.info("memory")
        policy = str(memory.get("maxmemory_policy", ""))
        if memory.get("maxmemory") and policy.startswith("allkeys"):
            raise StoreError(
                f"Redis evicts by {policy!r}, which would drop the list of what it keeps; "
                "set its maxmemory-policy to noeviction or volatile-lru.",
                reason=REFUSED,
            )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pages(self, first: str, end: str) -> Iterator[Entry]:
        while True:
            with _as_store_error():
                now_s = self.stamp() / 1e6
                last, *found = self._run(self._list, first, end, _PAGE)
            for key, left_ms in zip(found[::2], found[1::2], strict=True):
                yield Entry(key.decode(), now_s + left_ms / 1000 - self._limits.keep_s)
            if not last:
                return
            first = f"({last.decode()}"

    def _run(self, script: Any, *arguments: object) -> Any:
        return script(keys=[scripts.NAMESPACE], args=arguments)


def connect(url: str, timeout_s: float) -> driver.Redis:
    """A client that waits ``timeout_s`` at most for each answer, and never twice.

    Raises:
        InvalidInputError: The URL is none of Redis; it is not repeated, since it may hold a password.
    """
    try:
        return driver.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            protocol=2,
            driver_info=None,
            # Retries a connection that the server closed while idle, but never a timeout: a slow server would cost two.
            retry=Retry(NoBackoff(), 1, supported_errors=(driver.ConnectionError,)),
        )
    except ValueError:
        raise InvalidInputError(
            "HEADLIFT_REDIS_URL is no URL of Redis; write redis://[USER:PASSWORD@]HOST:PORT/DB, or rediss:// for TLS."
        ) from None


@contextmanager
def _as_store_error() -> Iterator[None]:
    # Without the client's own words, which name addresses.
    try:
        yield
    except (driver.AuthenticationError, driver.exceptions.NoPermissionError, driver.exceptions.AuthorizationError) as e:
        raise StoreError(
            f"Redis refused us ({type(e).__name__}); correct user and password in HEADLIFT_REDIS_URL.", reason=REFUSED
        ) from e
    except driver.exceptions.OutOfMemoryError as e:
        raise StoreFullError("Redis has no memory left; nothing was written. Give it more, or a lower bound.") from e
    except (driver.RedisError, OSError) as e:
        raise StoreError(f"The hot tier cannot be used ({type(e).__name__}); check Redis.") from e
