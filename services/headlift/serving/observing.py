"""Telemetry of a server that runs: what it exposes, and what it tells the counters of."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from headlift import __version__
from headlift.gateway.pipeline import Network
from headlift.settings import Settings
from headlift.telemetry.exposition import MetricsServer
from headlift.telemetry.logs import start_logging
from headlift.telemetry.metrics import Memory, metrics
from headlift.telemetry.tracing import otlp_provider, tracing_with

_SHORT_HASH = 12
_FOR_GOOD = ExitStack()  # what a replica never leaves


@contextmanager
def observed(settings: Settings) -> Iterator[MetricsServer | None]:
    """Logs, traces and the metrics port that ``settings`` ask for, as long as the block; None without a port.

    Raises:
        StoreError: The metrics port is taken.
        BackendUnavailableError: Traces are asked for and cannot be sent from here.
    """
    start_logging(settings.log_level, settings.log_format)
    with ExitStack() as stack:
        if settings.otlp_endpoint:
            provider, end = otlp_provider(
                settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio, version=__version__
            )
            stack.callback(end)
            stack.enter_context(tracing_with(provider))
        metrics().watch_gpus(gpu_memory)
        if not settings.metrics_port:
            yield None
            return
        yield stack.enter_context(MetricsServer(settings.metrics_port, settings.metrics_host))


def observe_replica(settings: Settings) -> None:
    """Send the spans of this process where ``settings`` say, for the rest of its life. Raises as ``observed``."""
    if settings.otlp_endpoint:
        provider, end = otlp_provider(
            settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio, version=__version__
        )
        _FOR_GOOD.enter_context(tracing_with(provider))
        atexit.register(end)


def note_build(network: Network, runtime: str) -> None:
    """Show in the metrics which network is served, and by which runtime."""
    weights = network.weights_hash[:_SHORT_HASH]
    metrics().built(version=__version__, weights_hash=weights, config=network.config_name, runtime=runtime)


def gpu_memory() -> list[Memory]:
    """Memory of the GPUs that this process uses, as the driver sees it: all processes together."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    found = []
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found.append((f"cuda:{i}", total - free, total))
    return found
