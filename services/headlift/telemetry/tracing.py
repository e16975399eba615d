"""Traces: spans over calls, stages and stores, carried from process to process as W3C traceparent.

Outside of ``tracing_with`` no spans are made, and tracing costs next to nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headlift.errors import BackendUnavailableError, HeadliftError

_NAME = "headlift"
_PARENT, _STATE = "traceparent", "tracestate"
_PROPAGATOR = TraceContextTextMapPropagator()
_lock = threading.Lock()
_tracers: list[Tracer] = []


@contextmanager
def span(name: str, /, **attributes: str | int | float | bool) -> Iterator[Span]:
    """A span over the block, below the one that is open in this context.

    What the block raises marks the span as failed: with its reason where it was raised on purpose, and never with a
    message or a stack, which may hold what callers sent.
    """
    with plain_span(name, SpanKind.INTERNAL, attributes) as opened:
        try:
            yield opened
        except BaseException as error:
            fail(opened, error.reason if isinstance(error, HeadliftError) else type(error).__name__)
            raise


@contextmanager
def plain_span(name: str, kind: SpanKind, attributes: Mapping[str, str | int | float | bool]) -> Iterator[Span]:
    """As ``span``, for a block that calls ``fail`` itself."""
    if not _tracers:
        yield trace.INVALID_SPAN
        return
    with _tracers[-1].start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as opened:
        yield opened


def fail(failed: Span, reason: str) -> None:
    """Mark a span as failed."""
    failed.set_attribute("error.type", reason)
    failed.set_status(Status(StatusCode.ERROR, reason))


def inject() -> str:
    """The open span as a W3C traceparent, to hand to another process; empty where nothing is traced."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(_PARENT, "")


@contextmanager
def extract(carrier: str | Mapping[str, str]) -> Iterator[None]:
    """Make the span that ``carrier`` names the parent of the block's spans.

    Args:
        carrier: A traceparent, or metadata (keys in lower case) with traceparent and perhaps tracestate. Without one,
            or with one that makes no sense, nothing changes.
    """
    values = {_PARENT: carrier} if isinstance(carrier, str) else carrier
    if not values.get(_PARENT):
        yield
        return
    kept = {name: values[name] for name in (_PARENT, _STATE) if name in values}
    token = otel_context.attach(_PROPAGATOR.extract(kept))
    try:
        yield
    finally:
        otel_context.detach(token)


def trace_id() -> str:
    """The id of the open trace, 32 hexadecimal digits; empty where nothing is traced."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


@contextmanager
def tracing_with(provider: TracerProvider) -> Iterator[None]:
    """Inside the block spans go to ``provider``, on all threads of this process."""
    tracer = provider.get_tracer(_NAME)
    with _lock:
        _tracers.append(tracer)
    try:
        yield
    finally:
        with _lock:
            _tracers.remove(tracer)


def otlp_provider(endpoint: str, *, sample_ratio: float, version: str) -> tuple[TracerProvider, Callable[[], None]]:
    """A provider that sends spans to an OTLP collector over gRPC, and what ends it (sends what is left, waits).

    Args:
        endpoint: http(s)://HOST:PORT; http speaks in the clear.
        sample_ratio: Share of the traces that begin here, 0..1; what callers have decided holds for theirs.
        version: Of Headlift.

    Raises:
        BackendUnavailableError: The extra ``otlp`` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        raise BackendUnavailableError(
            f"Traces need the package {error.name}; install headlift[otlp], or leave HEADLIFT_OTLP_ENDPOINT empty."
        ) from None
    provider = SdkProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({"service.name": _NAME, "service.version": version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=endpoint.startswith("http://"))))
    return provider, provider.shutdown
