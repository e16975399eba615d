"""Spans and metrics that tests can look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headlift.telemetry.metrics import Metrics, using
from headlift.telemetry.tracing import tracing_with


@pytest.fixture
def fresh() -> Iterator[Metrics]:
    """The metrics of this process, for one test."""
    with using(Metrics()) as fresh:
        yield fresh


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Where spans go."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with tracing_with(provider):
        yield exporter
