"""Telemetry of a running server: logs, traces, the metrics port, and what it runs."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from headlift import __version__
from headlift.backend.protocol import Network
from headlift.settings import Settings
from headlift.telemetry.exposition import MetricsServer
from headlift.telemetry.logs import start_logging
from headlift.telemetry.metrics import Memory, metrics
from headlift.telemetry.tracing import otlp_provider, tracing_with

_SHORT_HASH = 12
_UNTIL_EXIT = ExitStack()  # a replica traces for as long as its process lives


@contextmanager
def run_telemetry(settings: Settings) -> Iterator[MetricsServer | None]:
    """Logs, traces and the metrics port that ``settings`` ask for, as long as the block; None without a port.

    Raises:
        StoreError: The metrics port is taken.
        BackendUnavailableError: Traces are asked for and cannot be sent from here.
    """
    start_logging(settings.log_level, settings.log_format)
    with ExitStack() as stack:
        if settings.otlp_endpoint:
            provider, shutdown = otlp_provider(
                settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio, version=__version__
            )
            stack.callback(shutdown)
            stack.enter_context(tracing_with(provider))
        metrics().watch_gpus(gpu_memory)
        if not settings.metrics_port:
            yield None
            return
        yield stack.enter_context(MetricsServer(settings.metrics_port, settings.metrics_host))


def trace_replica(settings: Settings) -> None:
    """Send this process's spans where ``settings`` say, until it exits. Raises as ``run_telemetry``."""
    if settings.otlp_endpoint:
        provider, shutdown = otlp_provider(
            settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio, version=__version__
        )
        _UNTIL_EXIT.enter_context(tracing_with(provider))
        atexit.register(shutdown)


def set_build_info(network: Network, runtime: str) -> None:
    """Show in the metrics which network is served, and by which runtime."""
    weights = network.weights_hash[:_SHORT_HASH]
    metrics().set_build_info(version=__version__, weights_hash=weights, config=network.config_name, runtime=runtime)


def gpu_memory() -> list[Memory]:
    """Memory of the GPUs that this process uses, as the driver sees it: all processes together."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    devices = []
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        devices.append((f"cuda:{i}", total - free, total))
    return devices
