"""Scraped metrics, and rates and quantiles between two scrapes: what ``headlift top`` shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from headlift.errors import FormatError
from headlift.telemetry.instruments import PREFIX

_STARTED = "process_start_time_seconds"
_Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """All metrics at one time.

    Attributes:
        time_s: When, seconds since 1970.
        samples: Values by name (with suffixes such as ``_bucket``) and labels.
    """

    time_s: float
    samples: Mapping[str, Mapping[_Labels, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, time_s: float) -> Scrape:
        """Read Prometheus' text format. FormatError: this is something else."""
        samples: dict[str, dict[_Labels, float]] = {}
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        except (ValueError, KeyError, IndexError):
            raise FormatError("These are no metrics in Prometheus' text format; is the address right?") from None
        if not any(name.startswith(PREFIX) for name in samples):
            raise FormatError("There are no metrics of Headlift at this address; name its --metrics-port.")
        return cls(time_s, samples)

    @property
    def start(self) -> Scrape:
        """An empty scrape at the time when the process began."""
        began = next(iter(self.samples.get(_STARTED, {}).values()), self.time_s)
        return Scrape(min(began, self.time_s))

    def total(self, name: str, **match: str) -> float:
        """Sum of the samples of ``name`` that have these labels."""
        return sum(
            value for labels, value in self.samples.get(PREFIX + name, {}).items() if match.items() <= set(labels)
        )

    def values(self, name: str, label: str) -> list[str]:
        """Every value of ``label`` of ``name``, sorted."""
        return sorted({dict(labels).get(label, "") for labels in self.samples.get(PREFIX + name, {})})

    def labels(self, name: str) -> list[dict[str, str]]:
        """Every set of labels of ``name``."""
        return [dict(labels) for labels in self.samples.get(PREFIX + name, {})]


@dataclass(frozen=True)
class ScrapeDelta:
    """The difference between two scrapes."""

    before: Scrape
    now: Scrape

    @property
    def seconds(self) -> float:
        """Time between them."""
        return max(self.now.time_s - self.before.time_s, 1e-3)

    def grown(self, name: str, **match: str) -> float:
        """Growth of a counter; one that a restart has set back counts from 0."""
        return sum(
            _growth(self.before.samples.get(PREFIX + name, {}).get(labels, 0.0), value)
            for labels, value in self.now.samples.get(PREFIX + name, {}).items()
            if match.items() <= set(labels)
        )

    def rate(self, name: str, **match: str) -> float:
        """Growth of a counter a second."""
        return self.grown(name, **match) / self.seconds

    def quantile(self, q: float, name: str, **match: str) -> float | None:
        """Estimated quantile of what a histogram observed in between; None where it observed nothing.

        Args:
            q: 0..1.
            name: Of the histogram, without suffix.
            match: Labels that must be so.
        """
        bounds = self.now.values(f"{name}_bucket", "le")
        return quantile(q, ((float(le), self.grown(f"{name}_bucket", le=le, **match)) for le in bounds))


def quantile(q: float, buckets: Iterable[tuple[float, float]]) -> float | None:
    """A quantile of cumulative buckets (upper bound, count), linear within the bucket, as Prometheus does it.

    What lies above the last finite bound counts as that bound.
    """
    rows = sorted(buckets)
    if not rows or rows[-1][1] <= 0.0:
        return None
    wanted, low, below = q * rows[-1][1], 0.0, 0.0
    for bound, count in rows:
        if count >= wanted and count > below:
            return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (count - below)
        low, below = (low if math.isinf(bound) else bound), count
    return low


def _growth(before: float, now: float) -> float:
    return now - before if now >= before else now
