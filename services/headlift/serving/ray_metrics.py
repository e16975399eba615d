"""A replica's metrics in Ray's own: its agents expose them on a fixed port of each node, wherever replicas run."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from headlift.telemetry.instruments import Description

_Metric = Counter | Gauge | Histogram


class RayMetrics:
    """A listener of ``Metrics`` that repeats every change to Ray; there the names begin with ``ray_``."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}

    def __call__(self, description: Description, values: tuple[str, ...], amount: float) -> None:
        """See Listener."""
        metric = self._metrics.get(description.name) or self._register(description)
        tags = dict(zip(description.labels, values, strict=True))
        if isinstance(metric, Counter):
            if amount > 0:  # Ray refuses 0
                metric.inc(amount, tags)
        elif isinstance(metric, Gauge):
            metric.set(amount, tags)
        else:
            metric.observe(amount, tags)

    def _register(self, description: Description) -> _Metric:
        name, about, labels = description.name, description.about, description.labels
        metric: _Metric
        if description.kind == "counter":
            metric = Counter(name, about, labels)
        elif description.kind == "gauge":
            metric = Gauge(name, about, labels)
        else:
            metric = Histogram(name, about, list(description.buckets), labels)
        return self._metrics.setdefault(name, metric)
