import threading
from concurrent import futures
from contextvars import copy_context

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.trace import StatusCode

from headlift.errors import StoreError
from headlift.telemetry.tracing import extract, inject, otlp_provider, span, trace_id, tracing_with

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_without_a_provider_nothing_is_traced():
    with span("stage decode", batch=2) as opened:
        assert not opened.is_recording()
        assert inject() == ""
        assert trace_id() == ""


def test_spans_lie_below_the_one_that_is_open(spans):
    with span("outer"), span("inner", kind="head", found=True):
        pass
    inner, outer = spans.get_finished_spans()
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes) == {"kind": "head", "found": True}


def test_a_trace_travels_to_another_process_as_one_string(spans):
    with span("here"):
        carried = inject()
    with extract(carried), span("there"):
        assert trace_id() == carried.split("-")[1]
    here, there = spans.get_finished_spans()
    assert there.context.trace_id == here.context.trace_id
    assert there.parent.span_id == here.context.span_id


def test_the_callers_trace_is_followed_even_where_nothing_is_traced():
    with extract({"traceparent": PARENT, "tracestate": "v=1", "other": "x"}):
        assert trace_id() == PARENT.split("-")[1]
        assert inject() == PARENT
    assert trace_id() == ""


@pytest.mark.parametrize("nonsense", ["", "00-zz-1-01", "x" * 5000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_traceparent_that_makes_no_sense_begins_a_trace_of_its_own(spans, nonsense):
    with extract(nonsense), span("own"):
        pass
    assert spans.get_finished_spans()[0].parent is None


def test_a_failed_span_names_the_reason_and_nothing_that_callers_sent(spans):
    with pytest.raises(StoreError), span("store read"):
        raise StoreError("tenants/acme/secret is not there")
    failed = spans.get_finished_spans()[0]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "STORE_UNAVAILABLE"
    assert not failed.events
    assert "acme" not in failed.to_json()


def test_threads_belong_to_the_trace_whose_context_they_are_given(spans):
    with span("outer"):
        thread = threading.Thread(target=copy_context().run, args=(lambda: span("inner").__enter__().end(),))
        thread.start()
        thread.join()
    by_name = {s.name: s for s in spans.get_finished_spans()}
    assert by_name["inner"].parent.span_id == by_name["outer"].context.span_id


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.names = []

    def Export(self, request, context):  # noqa: N802 -- the contract's name
        self.names += [s.name for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_arrive_at_an_otlp_collector():
    server, collector = grpc.server(futures.ThreadPoolExecutor(1)), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    provider, end = otlp_provider(f"http://127.0.0.1:{port}", sample_ratio=1.0, version="1")
    with tracing_with(provider), span("stage decode"):
        pass
    end()
    server.stop(0).wait()
    assert collector.names == ["stage decode"]


def test_of_traces_that_begin_here_only_the_share_asked_for_is_kept():
    provider, end = otlp_provider("http://127.0.0.1:1", sample_ratio=0.0, version="1")
    with tracing_with(provider):
        with span("own") as opened:
            assert not opened.is_recording()
        with extract(PARENT.replace("-01", "-00")), span("theirs") as opened:
            assert not opened.is_recording()
    end()
