import pytest
from opentelemetry.trace import SpanKind, StatusCode

from headlift.telemetry.rpc import CALL_ID, RpcOutcome, rpc_span, short_method

METHOD = "/headlift.v1.HeadService/GetHead"
NAME = "HeadService/GetHead"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def value(fresh, name, **labels):
    return fresh.registry.get_sample_value(name, labels)


def test_a_call_is_counted_once_with_its_status_and_its_time(fresh):
    with rpc_span(METHOD, "c1", {}) as one:
        assert value(fresh, "headlift_requests_running", method=NAME) == 1
        one.end(RpcOutcome("OK"), 0.2)
    assert value(fresh, "headlift_requests_running", method=NAME) == 0
    assert value(fresh, "headlift_requests_total", method=NAME, code="OK") == 1
    assert value(fresh, "headlift_request_seconds_sum", method=NAME) == 0.2
    assert value(fresh, "headlift_errors_total", reason="OK") is None


def test_a_refusal_is_counted_by_reason_and_limit(fresh):
    with rpc_span(METHOD, "c1", {}) as one:
        one.end(RpcOutcome("RESOURCE_EXHAUSTED", "RATE_LIMITED", "requests_per_s"), 0.01)
    assert value(fresh, "headlift_errors_total", reason="RATE_LIMITED") == 1
    assert value(fresh, "headlift_quota_refusals_total", limit="requests_per_s") == 1


def test_the_id_holds_inside_the_call_and_what_fails_there_passes(fresh):
    def serve():
        with rpc_span(METHOD, "c1", {}):
            assert CALL_ID.get() == "c1"
            raise KeyError

    with pytest.raises(KeyError):
        serve()
    assert CALL_ID.get() == ""
    assert value(fresh, "headlift_requests_running", method=NAME) == 0


def test_the_span_belongs_to_the_callers_trace_and_keeps_its_own_reason(fresh, spans):
    def serve():
        with rpc_span(METHOD, "c1", {"traceparent": PARENT}) as one:
            one.end(RpcOutcome("NOT_FOUND", "NO_HEAD"), 0.1)
            raise RuntimeError("the transport's way of ending a call")

    with pytest.raises(RuntimeError):
        serve()
    (found,) = spans.get_finished_spans()
    assert (found.name, found.kind) == (NAME, SpanKind.SERVER)
    assert f"{found.context.trace_id:032x}" == PARENT.split("-")[1]
    assert found.attributes["headlift.call_id"] == "c1"
    assert found.attributes["error.type"] == "NO_HEAD"
    assert found.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("method", "name"), [(METHOD, NAME), ("/Service/Do", "Service/Do"), ("/a.b.c.Service/Do", "Service/Do")]
)
def test_methods_are_named_by_service_and_method(method, name):
    assert short_method(method) == name
