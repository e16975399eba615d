"""Leases in Redis: which of several processes does a piece of work, until it is done or its process dies."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import redis as driver
from redis.exceptions import LockError
from redis.lock import Lock

from headlift.errors import StoreError
from headlift.store.breaker import Breaker

T = TypeVar("T")
_log = logging.getLogger(__name__)
_NAMESPACE = "{headlift-lease}:"

Lease: TypeAlias = Lock


class Leases:
    """Redis locks, renewed until they are released; they expire soon after their process died.

    Every method may raise StoreError: at once, while ``breaker``, that of the tier in the same Redis, is open.
    """

    def __init__(self, client: driver.Redis, breaker: Breaker, *, ttl_s: float = 10.0) -> None:
        """A lease expires ``ttl_s`` after its process stopped renewing it."""
        self._client, self._breaker, self._ttl_s = client, breaker, ttl_s
        self._held: set[Lease] = set()
        self._lock = threading.Lock()
        self._renewing: threading.Event | None = None  # set to end the thread that renews

    def acquire(self, name: str) -> Lease | None:
        """The lease, or None while another process or thread has it."""
        # Not thread-local: other threads renew and release it.
        lease: Lease = self._client.lock(_NAMESPACE + name, timeout=self._ttl_s, blocking=False, thread_local=False)
        if not self._run(lease.acquire):
            return None
        with self._lock:
            self._held.add(lease)
            if self._renewing is None:
                self._renewing = threading.Event()
                threading.Thread(target=self._renew, args=(self._renewing,), name="leases", daemon=True).start()
        return lease

    def holder(self, name: str) -> object | None:
        """The holder's token, a new one each time the lease is acquired; None where it is free."""
        return self._run(lambda: self._client.get(_NAMESPACE + name))

    def release(self, lease: Lease) -> None:
        """End a lease; one that has expired or was released stays so."""
        with self._lock:
            self._held.discard(lease)
            if not self._held and self._renewing is not None:
                self._renewing.set()
                self._renewing = None
        with contextlib.suppress(LockError):
            self._run(lease.release)

    def _run(self, ask: Callable[[], T]) -> T:
        def run() -> T:
            try:
                return ask()
            except LockError:
                raise
            except (driver.RedisError, OSError) as error:
                raise StoreError(f"Leases cannot be had ({type(error).__name__}); check Redis.") from error

        return self._breaker.run(run)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._ttl_s / 3):
            with self._lock:
                held = list(self._held)
            for lease in held:
                try:
                    lease.reacquire()
                except LockError:  # released or expired meanwhile
                    continue
                except (driver.RedisError, OSError) as error:
                    # At worst the lease expires early and the work is done twice.
                    _log.warning("a lease could not be renewed (%s)", type(error).__name__)
                    break
