"""Every metric of Headlift, under the name that it keeps.

``metrics()`` is the process's own set: ``metrics().stage_seconds.observe(0.12, stage="decode", cached="false")``.
Labels never hold a tenant, a head or anything else that callers can invent; each takes ``VALUES_MAX`` values, later
ones count as ``other``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from headlift.telemetry.instruments import PREFIX, Counter, Description, Gauge, Histogram, Listener

# Upper bounds, seconds: a cached render answers in milliseconds, a refined head on a CPU in half a minute.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BATCH_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

# Device, bytes used, bytes it has.
Memory = tuple[str, int, int]


class Metrics:
    """All metrics on one registry.

    Attributes:
        registry: What is exposed; Prometheus' own process metrics (``process_*``) are in it too.
        listeners: Called on every change, to export it elsewhere too; see ``Listener``.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """A fresh registry, unless one is given."""
        self.registry = registry or CollectorRegistry(auto_describe=True)
        self.listeners: list[Listener] = []
        self._make_calls()
        self._make_work()
        self._make_stores()
        self._make_live()
        self._build = self._gauge(
            "build_info", "1, for what runs here.", "version", "weights_hash", "config", "runtime"
        )
        self._gpus = _GpuMemory()
        self.registry.register(self._gpus)
        ProcessCollector(registry=self.registry)

    def set_build_info(self, *, version: str, weights_hash: str, config: str, runtime: str) -> None:
        """What runs here; ``weights_hash`` may be shortened."""
        self._build.set(1.0, version=version, weights_hash=weights_hash, config=config, runtime=runtime)

    def watch_gpus(self, read: Callable[[], list[Memory]]) -> None:
        """Ask ``read`` for the memory of the GPUs whenever metrics are read; it is quick and does not raise."""
        self._gpus.read = read

    def _make_calls(self) -> None:
        self.requests = self._counter("requests_total", "RPCs that ended, by gRPC status.", "method", "code")
        self.request_seconds = self._histogram("request_seconds", "Time of RPCs; streams last as they last.", "method")
        self.requests_running = self._gauge("requests_running", "RPCs under way.", "method")
        self.errors = self._counter("errors_total", "RPCs that failed, by reason.", "reason")
        self.quota_refusals = self._counter("quota_refusals_total", "RPCs refused by a tenant's own limits.", "limit")

    def _make_work(self) -> None:
        self.stage_seconds = self._histogram("stage_seconds", "Time of one stage of one request.", "stage", "cached")
        self.queue_depth = self._gauge("queue_depth", "Jobs that wait for a worker.", "pool")
        self.queue_running = self._gauge("queue_running", "Jobs that workers are at.", "pool")
        self.queue_capacity = self._gauge("queue_capacity", "Jobs that may wait before more are refused.", "pool")
        self.queue_refusals = self._counter("queue_refusals_total", "Jobs refused because too many waited.", "pool")
        self.queue_wait_seconds = self._histogram("queue_wait_seconds", "Time that jobs waited for a worker.", "pool")
        self.batch_size = self._histogram("batch_size", "Requests computed in one pass.", "stage", buckets=BATCH_SIZES)
        self.heads_created = self._counter("heads_created_total", "Heads that were stored.")
        self.heads_deleted = self._counter("heads_deleted_total", "Heads that were deleted on request.")
        self.replica_retries = self._counter("replica_retries_total", "Calls asked again of another replica.", "stage")

    def _make_stores(self) -> None:
        self.cache_reads = self._counter(
            "cache_reads_total", "Reads by what came of them: hit, miss or corrupt.", "tier", "stage", "outcome"
        )
        self.blob_read_bytes = self._counter("blob_read_bytes_total", "Bytes read from stores.", "tier")
        self.blob_written_bytes = self._counter("blob_written_bytes_total", "Bytes written to stores.", "tier")
        self.breaker_open = self._gauge("breaker_open", "1 while a tier is skipped because it does not answer.", "tier")

    def _make_live(self) -> None:
        self.live_sessions = self._gauge("live_sessions", "Live sessions that are open.")
        self.live_sent = self._counter("live_sent_total", "Answers of live sessions: view, keyframe or delta.", "kind")
        self.live_sent_bytes = self._counter("live_sent_bytes_total", "Bytes of those answers.", "kind")
        self.live_dropped = self._counter("live_dropped_total", "Frames and viewpoints never answered.", "reason")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(Description(PREFIX + name, "counter", about, labels), self.registry, self.listeners)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(Description(PREFIX + name, "gauge", about, labels), self.registry, self.listeners)

    def _histogram(self, name: str, about: str, *labels: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        return Histogram(Description(PREFIX + name, "histogram", about, labels, buckets), self.registry, self.listeners)


class _GpuMemory(Collector):
    """Reads the driver when it is scraped: nothing polls a GPU in between."""

    def __init__(self) -> None:
        self.read: Callable[[], list[Memory]] = list

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See Collector."""
        used = GaugeMetricFamily(PREFIX + "gpu_memory_used_bytes", "GPU memory in use.", labels=("device",))
        total = GaugeMetricFamily(PREFIX + "gpu_memory_total_bytes", "GPU memory that there is.", labels=("device",))
        for device, used_bytes, total_bytes in self.read():
            used.add_metric((device,), used_bytes)
            total.add_metric((device,), total_bytes)
        yield from (used, total)


_lock = threading.Lock()
_current: list[Metrics] = []


def metrics() -> Metrics:
    """The metrics of this process."""
    if not _current:
        with _lock:
            if not _current:
                _current.append(Metrics())
    return _current[-1]


@contextmanager
def using(other: Metrics) -> Iterator[Metrics]:
    """Inside the block ``other`` are the metrics of this process, on all its threads; for tests."""
    _current.append(other)
    try:
        yield other
    finally:
        _current.remove(other)
