"""API keys: made, listed and revoked in one file, which holds their hashes and never the keys.

A key is ``hlk_ID_SECRET`` with 32 random bytes of secret. With 256 bits there is nothing to guess, so one SHA-256 is as
safe as a slow password hash, and costs a request a microsecond instead of a tenth of a second. The id finds the entry;
the hash of the whole key is compared in constant time.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from headlift.errors import ConflictError, InvalidInputError, NotFoundError, UnauthenticatedError
from headlift.serving.edge.auth import KEY_PREFIX, Caller, check_scopes, check_tenant
from headlift.serving.edge.limits import Limits
from headlift.serving.edge.watched_files import WatchedFiles, read

_VERSION = 1
_NO_SHA256 = "0" * 64


@dataclass(frozen=True)
class ApiKey:
    """One entry of the file. Times are seconds since 1970; 0 is never."""

    id: str
    tenant: str
    scopes: tuple[str, ...]
    sha256: str  # of the whole key, hexadecimal
    created_s: float
    expires_s: float = 0.0
    revoked_s: float = 0.0
    note: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)  # of its own, see Limits

    def __post_init__(self) -> None:
        Limits().merged(self.limits)
        check_tenant(self.tenant)
        check_scopes(self.scopes)

    @property
    def caller(self) -> Caller:
        """The caller that the key stands for."""
        return Caller(self.tenant, frozenset(self.scopes), f"key:{self.id}", self.limits)


class KeyFile:
    """Changes the file, for ``headlift keys``. Safe with several processes at once."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def create(
        self,
        tenant: str,
        scopes: Iterable[str],
        *,
        expires_in_s: float = 0.0,
        note: str = "",
        limits: Mapping[str, float] | None = None,
    ) -> tuple[str, ApiKey]:
        """A new key, and its entry. The key itself is nowhere else: who loses it makes another.

        Raises:
            InvalidInputError: The tenant, a scope or the file is not one.
        """
        name = secrets.token_hex(6)
        key, now = f"{KEY_PREFIX}{name}_{secrets.token_urlsafe(32)}", self._clock()
        expires_s = now + expires_in_s if expires_in_s else 0.0
        chosen = tuple(sorted(set(scopes)))
        entry = ApiKey(name, tenant, chosen, _sha256(key), now, expires_s, 0.0, note, limits or {})
        with self._changing() as entries:
            entries.append(entry)
        return key, entry

    def entries(self) -> list[ApiKey]:
        """Every entry, oldest first, also those that have ended."""
        return list(parse(read(self._path))) if self._path.exists() else []

    def revoke(self, name: str) -> ApiKey:
        """End a key; running servers notice within a second.

        Raises:
            NotFoundError: There is no key with this id.
            ConflictError: It is revoked already.
        """
        with self._changing() as entries:
            at = next((i for i, entry in enumerate(entries) if entry.id == name), None)
            if at is None:
                raise NotFoundError(f"There is no key {name[:80]!r}; `headlift keys list` shows those there are.")
            if entries[at].revoked_s:
                raise ConflictError(f"The key {name} is revoked already.", reason="REVOKED")
            entries[at] = replace(entries[at], revoked_s=self._clock())
            return entries[at]

    @contextmanager
    def _changing(self) -> Iterator[list[ApiKey]]:
        """The entries, written back whole when the block is left without an error."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries = self.entries()
            yield entries
            self._write(entries)
        finally:
            os.close(lock)

    def _write(self, entries: list[ApiKey]) -> None:
        text = json.dumps({"version": _VERSION, "keys": [asdict(e) for e in entries]}, indent=1)
        temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        try:
            with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)


class KeyRing:
    """A Verifier that reads the file."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file; it is read again when it changes.

        Raises:
            InvalidInputError: It is missing, makes no sense, or may be written by others than its owner.
        """
        self._clock = clock
        self._entries = WatchedFiles((path,), lambda data: _index(path, data), clock=ticks)

    def verify(self, credential: str) -> Caller:
        """See auth.Verifier."""
        name = credential.removeprefix(KEY_PREFIX).split("_", 1)[0]
        entry = self._entries.value.get(name)
        # Compared even without such an id, so that the time of a refusal does not tell which ids exist.
        genuine = hmac.compare_digest(_sha256(credential), entry.sha256 if entry else _NO_SHA256)
        if entry is None or not genuine:
            raise UnauthenticatedError("The API key is not known here; check that it is whole.", reason="BAD_KEY")
        if entry.revoked_s:
            raise UnauthenticatedError("The API key was revoked; ask for a new one.", reason="KEY_REVOKED")
        if entry.expires_s and self._clock() >= entry.expires_s:
            raise UnauthenticatedError("The API key has expired; ask for a new one.", reason="KEY_EXPIRED")
        return entry.caller


def parse(data: bytes) -> Iterator[ApiKey]:
    """The entries of a key file. InvalidInputError: it is none."""
    try:
        content = json.loads(data)
        if content["version"] != _VERSION:
            raise ValueError
        for fields in content["keys"]:
            yield ApiKey(**(fields | {"scopes": tuple(fields["scopes"])}))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInputError(
            f"The key file is not one that `headlift keys` of version {_VERSION} writes; create keys in a new one.",
            reason="BAD_KEY_FILE",
        ) from None


def _index(path: Path, data: bytes) -> dict[str, ApiKey]:
    if path.stat().st_mode & 0o022:
        raise InvalidInputError(
            f"{path.name} may be written by others than its owner, who could add keys; run chmod go-w on it.",
            reason="OPEN_KEY_FILE",
        )
    return {entry.id: entry for entry in parse(data)}


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
