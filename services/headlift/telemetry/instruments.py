"""Prometheus' counters, gauges and histograms, with bounded labels and listeners (Ray's metrics are one)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry

PREFIX = "headlift_"
OTHER = "other"
# Distinct values of one label; later ones count as OTHER. The largest true set, the RPC methods, has a few dozen: past
# 128 something that callers invent has become a label, and each value costs server and Prometheus memory for good.
VALUES_MAX = 128


@dataclass(frozen=True)
class Description:
    """A metric, without its values.

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


# Called on every change: which metric, its label values in order, and what was added (gauge: the new value).
Listener = Callable[[Description, tuple[str, ...], float], None]


class Instrument:
    """One metric. Thread-safe, and quick enough for every call."""

    def __init__(self, description: Description, registry: CollectorRegistry, listeners: Sequence[Listener]) -> None:
        """``listeners`` is read on every change, so it may grow later."""
        self.description = description
        self._listeners = listeners
        self._values: tuple[set[str], ...] = tuple(set() for _ in description.labels)
        self._lock = threading.Lock()
        self._metric = self._register(description, registry)
        self._children: dict[tuple[str, ...], Any] = {} if description.labels else {(): self._metric}

    def _register(self, description: Description, registry: CollectorRegistry) -> Any:
        raise NotImplementedError

    def _child(self, labels: dict[str, str]) -> tuple[tuple[str, ...], Any]:
        values = tuple([labels[name] for name in self.description.labels])
        child = self._children.get(values)
        if child is not None and len(labels) == len(values):
            return values, child
        return self._new_child(labels)

    def _new_child(self, labels: dict[str, str]) -> tuple[tuple[str, ...], Any]:
        if set(labels) != set(self.description.labels):
            raise ValueError(f"{self.description.name} has the labels {self.description.labels}, not {tuple(labels)}")
        with self._lock:
            values = tuple(self._bounded(i, labels[name]) for i, name in enumerate(self.description.labels))
            if values not in self._children:
                self._children[values] = self._metric.labels(*values)
            return values, self._children[values]

    def _bounded(self, position: int, value: str) -> str:
        values = self._values[position]
        if value not in values and len(values) >= VALUES_MAX:
            return OTHER
        values.add(value)
        return value

    def _notify(self, values: tuple[str, ...], amount: float) -> None:
        for listener in self._listeners:
            listener(self.description, values, amount)


class Counter(Instrument):
    """A number that only grows."""

    def inc(self, amount: float = 1.0, /, **labels: str) -> None:
        """Add ``amount``, which is 0 or above."""
        values, child = self._child(labels)
        child.inc(amount)
        self._notify(values, amount)

    def _register(self, description: Description, registry: CollectorRegistry) -> Any:
        return prometheus.Counter(description.name, description.about, description.labels, registry=registry)


class Gauge(Instrument):
    """A number that rises and falls."""

    def set(self, value: float, /, **labels: str) -> None:
        """Replace the value."""
        values, child = self._child(labels)
        child.set(value)
        self._notify(values, value)

    def inc(self, amount: float = 1.0, /, **labels: str) -> None:
        """Add ``amount``, which may be negative."""
        values, child = self._child(labels)
        child.inc(amount)
        if self._listeners:
            self._notify(values, child._value.get())

    def dec(self, amount: float = 1.0, /, **labels: str) -> None:
        """Subtract ``amount``."""
        self.inc(-amount, **labels)

    def _register(self, description: Description, registry: CollectorRegistry) -> Any:
        return prometheus.Gauge(description.name, description.about, description.labels, registry=registry)


class Histogram(Instrument):
    """A distribution of values, counted in buckets."""

    def observe(self, value: float, /, **labels: str) -> None:
        """Count ``value`` once."""
        values, child = self._child(labels)
        child.observe(value)
        self._notify(values, value)

    def _register(self, description: Description, registry: CollectorRegistry) -> Any:
        return prometheus.Histogram(
            description.name, description.about, description.labels, buckets=description.buckets, registry=registry
        )
