"""The metrics of a replica in Ray's own, which its agents on every node expose: replicas come and go, ports do not."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from headlift.telemetry.instruments import Description

_Metric = Counter | Gauge | Histogram


class RayMetrics:
    """A listener of ``Metrics`` that repeats every change to Ray; there the names begin with ``ray_``."""

    def __init__(self) -> None:
        self._made: dict[str, _Metric] = {}

    def __call__(self, described: Description, values: tuple[str, ...], amount: float) -> None:
        """See Listener."""
        metric = self._made.get(described.name) or self._make(described)
        tags = dict(zip(described.labels, values, strict=True))
        if isinstance(metric, Counter):
            if amount > 0:  # Ray refuses 0
                metric.inc(amount, tags)
        elif isinstance(metric, Gauge):
            metric.set(amount, tags)
        else:
            metric.observe(amount, tags)

    def _make(self, described: Description) -> _Metric:
        name, about, labels = described.name, described.about, described.labels
        made: _Metric
        if described.kind == "counter":
            made = Counter(name, about, labels)
        elif described.kind == "gauge":
            made = Gauge(name, about, labels)
        else:
            made = Histogram(name, about, list(described.buckets), labels)
        return self._made.setdefault(name, made)
