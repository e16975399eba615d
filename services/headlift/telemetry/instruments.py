"""Counters, levels and spreads: Prometheus' own, with bounded labels and a way for others to listen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX = "headlift_"
OTHER = "other"
VALUES_MAX = 128  # distinct values of one label; what comes after them is counted as OTHER


@dataclass(frozen=True)
class Description:
    """What a metric is.

    Attributes:
        name: Without the suffixes that Prometheus adds to histograms, with ``_total`` for counters.
        kind: ``counter``, ``gauge`` or ``histogram``.
        about: One sentence.
        labels: Names of its labels.
        buckets: Upper bounds of a histogram's buckets, ascending, without infinity; empty for others.
    """

    name: str
    kind: str
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Hears of every change: which metric, its labels in order, and what was added (gauge: the new value).
Listener = Callable[[Description, tuple[str, ...], float], None]


class Instrument:
    """One metric. Thread-safe, and quick enough for every call.

    Attributes:
        described: What it is.
    """

    def __init__(self, described: Description, registry: CollectorRegistry, listeners: Sequence[Listener]) -> None:
        """``listeners`` is looked at on every change, so that it may grow later."""
        self.described = described
        self._listeners = listeners
        self._seen: tuple[set[str], ...] = tuple(set() for _ in described.labels)
        self._lock = threading.Lock()
        self._inner = self._make(described, registry)
        if not described.labels:
            self._children: dict[tuple[str, ...], Any] = {(): self._inner}
        else:
            self._children = {}

    def _make(self, described: Description, registry: CollectorRegistry) -> Any:
        raise NotImplementedError

    def _child(self, labels: dict[str, str]) -> tuple[tuple[str, ...], Any]:
        values = tuple([labels[name] for name in self.described.labels])
        child = self._children.get(values)
        if child is not None and len(labels) == len(values):
            return values, child
        return self._new_child(labels)

    def _new_child(self, labels: dict[str, str]) -> tuple[tuple[str, ...], Any]:
        if set(labels) != set(self.described.labels):
            raise ValueError(f"{self.described.name} has the labels {self.described.labels}, not {tuple(labels)}")
        with self._lock:
            values = tuple(self._bounded(i, labels[name]) for i, name in enumerate(self.described.labels))
            if values not in self._children:
                self._children[values] = self._inner.labels(*values)
            return values, self._children[values]

    def _bounded(self, position: int, value: str) -> str:
        seen = self._seen[position]
        if value not in seen and len(seen) >= VALUES_MAX:
            return OTHER
        seen.add(value)
        return value

    def _tell(self, values: tuple[str, ...], amount: float) -> None:
        for listen in self._listeners:
            listen(self.described, values, amount)


class Count(Instrument):
    """Something that only grows."""

    def add(self, amount: float = 1.0, /, **labels: str) -> None:
        """Count ``amount`` more; it is 0 or above."""
        values, child = self._child(labels)
        child.inc(amount)
        self._tell(values, amount)

    def _make(self, described: Description, registry: CollectorRegistry) -> Any:
        return Counter(described.name, described.about, described.labels, registry=registry)


class Level(Instrument):
    """Something that rises and falls."""

    def set(self, value: float, /, **labels: str) -> None:
        """It is ``value`` now."""
        values, child = self._child(labels)
        child.set(value)
        self._tell(values, value)

    def move(self, amount: float, /, **labels: str) -> None:
        """It is ``amount`` more (or less) than before."""
        values, child = self._child(labels)
        child.inc(amount)
        if self._listeners:
            self._tell(values, child._value.get())

    def _make(self, described: Description, registry: CollectorRegistry) -> Any:
        return Gauge(described.name, described.about, described.labels, registry=registry)


class Spread(Instrument):
    """How often something took how much: a histogram."""

    def see(self, value: float, /, **labels: str) -> None:
        """It was ``value`` this time."""
        values, child = self._child(labels)
        child.observe(value)
        self._tell(values, value)

    def _make(self, described: Description, registry: CollectorRegistry) -> Any:
        return Histogram(
            described.name, described.about, described.labels, buckets=described.buckets, registry=registry
        )
