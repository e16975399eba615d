"""Retention: how long each tenant's heads and results are kept, and the sweep that removes older ones."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from headlift.errors import InvalidInputError, NotFoundError, StoreError
from headlift.store.blobs import Entry
from headlift.store.heads import HeadName, HeadStore, created_ms
from headlift.store.operations import OperationName, OperationStore
from headlift.store.sealed import SealedStore

_log = logging.getLogger(__name__)
_DAY_S = 86_400.0


@dataclass(frozen=True)
class RetentionRule:
    """How long one tenant's heads and results are kept, days; 0 keeps them until they are deleted."""

    derived_days: float = 30.0  # what can be computed again, and operations that have ended
    heads_days: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 36_500:
                raise InvalidInputError(f"{f.name} is {value!r}; it must be a number of days in 0..36500.")


@dataclass(frozen=True)
class Retention:
    """The rules of all tenants."""

    default: RetentionRule = RetentionRule()
    tenants: Mapping[str, RetentionRule] = field(default_factory=dict)
    requests_s: float = _DAY_S

    def of(self, tenant: str) -> RetentionRule:
        """The rule for one tenant."""
        return self.tenants.get(tenant, self.default)


def read_retention(path: Path, default: RetentionRule) -> dict[str, RetentionRule]:
    """Tenants' own rules: ``{"acme": {"derived_days": 1, "heads_days": 90}}``; what one leaves out is the default's.

    Raises:
        InvalidInputError: The file cannot be read or says something else.
    """
    try:
        rules: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"HEADLIFT_RETENTION_FILE cannot be read as JSON ({type(error).__name__}).") from error
    known = {f.name for f in fields(RetentionRule)}
    if not isinstance(rules, dict) or not all(isinstance(r, dict) and r.keys() <= known for r in rules.values()):
        raise InvalidInputError(f"HEADLIFT_RETENTION_FILE must map tenants to any of {', '.join(sorted(known))}.")
    return {tenant: replace(default, **rule) for tenant, rule in rules.items()}


class Sweeper:
    """Removes what is older than its tenant's rule allows."""

    def __init__(
        self, store: SealedStore, heads: HeadStore, retention: Retention, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._heads, self._retention, self._clock = store, heads, retention, clock

    def sweep(self) -> int:
        """Remove what is too old; how many heads and blobs that were. One that cannot be removed waits for the next.

        Raises:
            StoreError: The store cannot be listed.
        """
        removed = 0
        for entry in list(self._old()):
            try:
                removed += self._remove(entry.key)
            except (StoreError, NotFoundError) as error:
                _log.warning("%s could not be removed: %s", entry.key, error.message)
        if removed:
            _log.info("removed %d heads and blobs that were older than their tenants' rules allow", removed)
        return removed

    def _old(self) -> Iterator[Entry]:
        now = self._clock()
        for entry in self._store.entries("tenants"):
            _, tenant, folder, *rest = entry.key.split("/")
            keep = self._retention.of(tenant)
            limit_s = {
                "derived": keep.derived_days * _DAY_S,
                "renders": keep.derived_days * _DAY_S,
                "heads": keep.heads_days * _DAY_S if rest[-1] == "record" else 0.0,
                "requests": self._retention.requests_s,
                "operations": keep.derived_days * _DAY_S if rest[-1] == "record" else 0.0,
            }.get(folder, 0.0)
            # A head's name says when it was made; a blob may have been written anew since, by mending.
            made_s = created_ms(rest[0]) / 1000 if folder == "heads" else 0.0
            written_s = made_s or entry.time_s
            if limit_s and now - written_s > limit_s:
                yield entry

    def _remove(self, key: str) -> int:
        _, tenant, folder, *rest = key.split("/")
        if folder == "operations":
            operations, name = OperationStore(self._store), OperationName(tenant, rest[0])
            if operations.is_pending(name):
                return 0
            operations.delete(name)
            return 1
        if folder != "heads":
            return int(self._store.delete(key))
        self._heads.delete(HeadName(tenant, rest[0]))
        return 1
