import io
import json
import logging
import sys
import threading
import urllib.request
from dataclasses import replace

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headlift.commands.top import fetch, summarize, text
from headlift.errors import BackendUnavailableError
from headlift.serving.background import BackgroundServer
from headlift.serving.telemetry import run_telemetry
from headlift.telemetry.exposition import MetricsServer
from headlift.telemetry.logs import start_logging
from headlift.telemetry.metrics import Metrics, using
from headlift.telemetry.scrape import Scrape, ScrapeDelta
from headlift.telemetry.tracing import tracing_with
from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import head_service_pb2_grpc

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = PARENT.split("-")[1]


@pytest.fixture(scope="module")
def lived(settings, tmp_path_factory, portrait_png):
    """A server that has been talked to: two readings of its metrics port, its spans, its log, its answers."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    exporter, provider, stream = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False), io.StringIO()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    mine = replace(settings, data_dir=tmp_path_factory.mktemp("observed"))
    with (
        using(Metrics()) as fresh,
        tracing_with(provider),
        MetricsServer(0, source=fresh) as http,
        BackgroundServer(mine) as server,
    ):
        start_logging("INFO", "json", stream)
        url = f"http://127.0.0.1:{http.port}/metrics"
        idle = fetch(url)
        with grpc.insecure_channel(server.address) as channel:
            stub = head_service_pb2_grpc.HeadServiceStub(channel)
            create = pb.CreateHeadRequest(parent="tenants/acme", picture=portrait_png)
            metadata = (("traceparent", PARENT), ("x-request-id", "call-42"))
            head = stub.CreateHead(create, metadata=metadata).head
            stub.CreateHead(create)
            for _ in range(3):
                stub.GetHead(pb.GetHeadRequest(name=head.name))
            with pytest.raises(grpc.RpcError):
                stub.GetHead(pb.GetHeadRequest(name="tenants/acme/heads/h-none"), metadata=(("x-request-id", "bad-1"),))
            stub.DeleteHead(pb.DeleteHeadRequest(name=head.name))
        with urllib.request.urlopen(url, timeout=10) as answer:
            exposed = answer.read().decode()
        busy = fetch(url)
    root.handlers[:], _, sys.excepthook, threading.excepthook = before
    root.setLevel(before[1])
    return {
        "idle": idle,
        "busy": busy,
        "exposed": exposed,
        "spans": exporter.get_finished_spans(),
        "lines": [json.loads(line) for line in stream.getvalue().splitlines()],
        "head": head,
    }


def test_calls_are_counted_by_method_and_code(lived):
    now = lived["busy"]
    assert now.total("requests_total", method="HeadService/GetHead", code="OK") == 3
    assert now.total("requests_total", method="HeadService/GetHead", code="NOT_FOUND") == 1
    assert now.total("errors_total", reason="NOT_FOUND") == 1
    assert now.total("requests_total", method="HeadService/CreateHead") == 2
    assert now.total("requests_running") == 0
    assert (now.total("heads_created_total"), now.total("heads_deleted_total")) == (2, 1)


def test_stages_are_timed_once_a_request_and_remembered_ones_are_told_apart(lived):
    now = lived["busy"]
    for stage in ("preprocess", "encode", "decode", "pack"):
        assert now.total("stage_seconds_count", stage=stage, cached="false") == 1, stage
        assert now.total("stage_seconds_count", stage=stage, cached="true") == 1, stage
    told = {t.stage: t.duration_ms / 1e3 for t in lived["head"].stage_timings}
    assert now.total("stage_seconds_sum", stage="decode", cached="false") == pytest.approx(told["decode"], rel=1e-4)


def test_counters_never_fall_and_buckets_are_cumulative(lived):
    for name, samples in lived["idle"].samples.items():
        if name.endswith(("_total", "_count", "_bucket")):
            assert all(lived["busy"].samples[name][labels] >= value for labels, value in samples.items()), name
    buckets = {
        float(dict(labels)["le"]): count
        for labels, count in lived["busy"].samples["headlift_request_seconds_bucket"].items()
        if ("method", "HeadService/GetHead") in labels
    }
    counts = [buckets[bound] for bound in sorted(buckets)]
    assert counts == sorted(counts)
    assert counts[-1] == 4


def test_stores_queues_memory_and_build_are_there(lived):
    now = lived["busy"]
    assert now.total("blob_written_bytes_total", tier="durable") > 10_000
    assert now.total("cache_reads_total", tier="durable", outcome="hit") > 0
    assert {"baking", "creating", "editing", "rendering", "storing"} == set(now.values("queue_capacity", "pool"))
    assert now.total("queue_wait_seconds_count", pool="creating") == 2
    assert now.samples["process_resident_memory_bytes"][frozenset()] > 1e7
    assert now.labels("build_info")[0]["config"] == "tiny"


def test_nothing_that_a_caller_named_is_exposed(lived):
    for secret in ("acme", "h-none", "call-42", lived["head"].name.rpartition("/")[2]):
        assert secret not in lived["exposed"]


def test_one_trace_goes_from_the_caller_through_stages_and_stores(lived):
    mine = {s.name: s for s in lived["spans"] if f"{s.context.trace_id:032x}" == TRACE}
    assert {"HeadService/CreateHead", "stage preprocess", "stage encode", "stage decode", "store write"} <= set(mine)
    root = mine["HeadService/CreateHead"]
    assert f"{root.parent.span_id:016x}" == PARENT.split("-")[2]
    assert mine["stage decode"].parent.span_id == root.context.span_id
    assert all("acme" not in s.to_json() for s in lived["spans"])


def test_every_line_is_json_and_names_its_call(lived):
    by_call = {line["call_id"]: line for line in lived["lines"] if line.get("method")}
    assert by_call["call-42"]["trace_id"] == TRACE
    assert by_call["call-42"]["code"] == "OK"
    assert by_call["call-42"]["ms"] > 0
    assert by_call["bad-1"]["code"] == "NOT_FOUND"


def test_top_shows_what_happened_in_between(lived):
    shown = summarize(ScrapeDelta(lived["idle"], lived["busy"]))
    methods = {row["method"]: row for row in shown["methods"]}
    assert methods["HeadService/GetHead"]["requests_s"] == pytest.approx(4 / shown["seconds"], rel=0.02)
    assert methods["HeadService/GetHead"]["p50_ms"] <= methods["HeadService/GetHead"]["p95_ms"]
    assert {row["stage"]: row["cached_ratio"] for row in shown["stages"]}["decode"] == 0.5
    assert {row["tier"] for row in shown["caches"]} == {"durable"}
    assert shown["memory"]["resident_bytes"] > 1e7
    assert "HeadService/GetHead" in text(shown)
    assert "1 NOT_FOUND" in text(shown)


def test_a_server_can_be_observed_through_its_settings(settings, tmp_path):
    before = logging.getLogger().handlers[:], sys.excepthook, threading.excepthook
    free = replace(settings, data_dir=tmp_path, metrics_port=0)
    try:
        with run_telemetry(free) as nothing:
            assert nothing is None
        with MetricsServer(0) as other:
            port = other.port
        with run_telemetry(replace(free, metrics_port=port)) as http:
            assert http.port == port
            assert isinstance(fetch(f"http://127.0.0.1:{port}/metrics"), Scrape)
    finally:
        logging.getLogger().handlers[:], sys.excepthook, threading.excepthook = before


def test_traces_without_the_extra_are_a_clear_error(settings, monkeypatch):
    before = logging.getLogger().handlers[:], sys.excepthook, threading.excepthook
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    try:
        with pytest.raises(BackendUnavailableError, match=r"headlift\[otlp\]"):
            run_telemetry(replace(settings, otlp_endpoint="http://127.0.0.1:1")).__enter__()
    finally:
        logging.getLogger().handlers[:], sys.excepthook, threading.excepthook = before
