"""Leases: who of several processes does a piece of work, until it is done or its process dies."""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import dataclass
from typing import Protocol

import redis as driver

from headlift.errors import StoreError
from headlift.store.breaker import Breaker

_log = logging.getLogger(__name__)
_NAMESPACE = "{headlift-lease}:"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"


@dataclass(frozen=True)
class Lease:
    """The right to do a piece of work."""

    name: str
    token: str


class Leases(Protocol):
    """Hands out leases; every method may raise StoreError."""

    def take(self, name: str) -> Lease | None:
        """The lease, or None while somebody else has it."""
        ...

    def holder(self, name: str) -> str | None:
        """Who has it: a word that changes with every taking."""
        ...

    def give_back(self, lease: Lease) -> None:
        """Let others have it."""
        ...


class RedisLeases:
    """Leases in Redis. They end by themselves soon after their process does."""

    def __init__(self, client: driver.Redis, *, keep_s: float = 10.0) -> None:
        """A lease ends ``keep_s`` after its process stopped renewing it."""
        self._client = client
        self._keep_ms = int(keep_s * 1000)
        self._release, self._renew = client.register_script(_RELEASE), client.register_script(_RENEW)
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._renewing: threading.Event | None = None

    def take(self, name: str) -> Lease | None:
        """See Leases."""
        lease = Lease(name, secrets.token_hex(8))
        try:
            taken = self._client.set(_NAMESPACE + name, lease.token, nx=True, px=self._keep_ms)
        except (driver.RedisError, OSError) as error:
            raise _failure(error) from error
        if not taken:
            return None
        with self._lock:
            self._held[lease.token] = lease
            if self._renewing is None:
                self._renewing = threading.Event()
                threading.Thread(target=self._keep_renewing, args=(self._renewing,), name="leases", daemon=True).start()
        return lease

    def holder(self, name: str) -> str | None:
        """See Leases."""
        try:
            token = self._client.get(_NAMESPACE + name)
        except (driver.RedisError, OSError) as error:
            raise _failure(error) from error
        return token.decode() if isinstance(token, bytes) else None

    def give_back(self, lease: Lease) -> None:
        """See Leases."""
        with self._lock:
            self._held.pop(lease.token, None)
            if not self._held and self._renewing is not None:
                self._renewing.set()
                self._renewing = None
        try:
            self._release(keys=[_NAMESPACE + lease.name], args=[lease.token])
        except (driver.RedisError, OSError) as error:
            raise _failure(error) from error

    def _keep_renewing(self, ended: threading.Event) -> None:
        while not ended.wait(self._keep_ms / 3000):
            with self._lock:
                held = list(self._held.values())
            for lease in held:
                try:
                    self._renew(keys=[_NAMESPACE + lease.name], args=[lease.token, self._keep_ms])
                except (driver.RedisError, OSError) as error:
                    # At worst the lease ends early and the work is done twice.
                    _log.warning("a lease could not be renewed (%s)", type(error).__name__)
                    break


class GuardedLeases:
    """Leases behind the breaker of the tier that keeps them: while it is open, nobody waits to hear that they fail."""

    def __init__(self, inner: Leases, breaker: Breaker) -> None:
        self._inner, self._breaker = inner, breaker

    def take(self, name: str) -> Lease | None:
        """See Leases."""
        return self._breaker.run(lambda: self._inner.take(name))

    def holder(self, name: str) -> str | None:
        """See Leases."""
        return self._breaker.run(lambda: self._inner.holder(name))

    def give_back(self, lease: Lease) -> None:
        """See Leases."""
        self._breaker.run(lambda: self._inner.give_back(lease))


def _failure(error: Exception) -> StoreError:
    return StoreError(f"Leases cannot be had ({type(error).__name__}); check Redis.")
