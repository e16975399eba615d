import urllib.error
import urllib.request

import pytest

from headlift.errors import StoreError
from headlift.telemetry.exposition import HEALTH_PATH, MetricsServer, exposed
from headlift.telemetry.metrics import Metrics


def test_what_was_counted_can_be_fetched_over_http():
    fresh = Metrics()
    fresh.heads_created.inc(3)
    with (
        MetricsServer(0, source=fresh) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer,
    ):
        text = answer.read().decode()
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert "\nheadlift_heads_created_total 3.0\n" in text
    assert "_created " not in text.replace("heads_created", "")


def test_a_taken_port_is_a_clear_error_without_a_trace_of_the_library():
    with MetricsServer(0) as server, pytest.raises(StoreError, match="HEADLIFT_METRICS_PORT") as failure:
        MetricsServer(server.port).__enter__()
    assert failure.value.reason == "PORT_TAKEN"


def test_the_port_is_free_again_afterwards():
    with MetricsServer(0) as server:
        port = server.port
    with MetricsServer(port) as again:
        assert again.port == port


def test_one_registry_does_not_show_what_another_counted():
    fresh, other = Metrics(), Metrics()
    fresh.heads_created.inc()
    assert b"\nheadlift_heads_created_total 0.0\n" in exposed(other)


def test_health_is_told_apart_from_the_metrics_and_follows_who_serves():
    with MetricsServer(0, source=Metrics()) as server:
        url = f"http://127.0.0.1:{server.port}{HEALTH_PATH}"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=10)
        with refused.value:
            assert refused.value.code == 503
        server.serving = True
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"SERVING\n"
