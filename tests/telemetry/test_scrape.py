import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headlift.errors import FormatError
from headlift.telemetry.exposition import exposed
from headlift.telemetry.metrics import SECONDS, Metrics
from headlift.telemetry.scrape import Scrape, ScrapeDelta, quantile


def read(fresh, time_s):
    return Scrape.parse(exposed(fresh).decode(), time_s)


def test_rates_are_of_what_happened_in_between():
    fresh = Metrics()
    fresh.requests.inc(5, method="a", code="OK")
    before = read(fresh, 100.0)
    fresh.requests.inc(8, method="a", code="OK")
    fresh.requests.inc(2, method="a", code="NOT_FOUND")
    fresh.requests.inc(4, method="b", code="OK")
    change = ScrapeDelta(before, read(fresh, 102.0))
    assert change.rate("requests_total", method="a") == 5.0
    assert change.rate("requests_total", code="OK") == 6.0
    assert change.now.values("requests_total", "method") == ["a", "b"]


def test_a_server_that_was_restarted_counts_from_zero():
    old, new = Metrics(), Metrics()
    old.heads_created.inc(100)
    new.heads_created.inc(3)
    assert ScrapeDelta(read(old, 0.0), read(new, 1.0)).grown("heads_created_total") == 3


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, q):
    fresh = Metrics()
    before = read(fresh, 0.0)
    for value in values:
        fresh.request_seconds.observe(value, method="a")
    found = ScrapeDelta(before, read(fresh, 1.0)).quantile(q, "request_seconds", method="a")
    true = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
    bounds = [0.0, *SECONDS]
    bucket = next(i for i, bound in enumerate(bounds) if true <= bound)
    assert bounds[max(bucket - 1, 0)] <= found <= bounds[max(bucket, 1)]


def test_quantiles_grow_with_q_and_nothing_seen_has_none():
    buckets = [(0.1, 3.0), (1.0, 7.0), (10.0, 9.0), (math.inf, 10.0)]
    found = [quantile(q / 20, buckets) for q in range(1, 21)]
    assert found == sorted(found)
    assert found[-1] == 10.0
    assert quantile(0.5, [(1.0, 0.0), (math.inf, 0.0)]) is None


@pytest.mark.parametrize("text", ["<html>no</html>", "go_goroutines 7\n", "", "headlift_x{y= 1\n"])
def test_other_things_than_metrics_of_ours_are_refused(text):
    with pytest.raises(FormatError):
        Scrape.parse(text, 0.0)


def test_since_the_start_means_all_that_was_counted():
    fresh = Metrics()
    fresh.heads_created.inc(3)
    now = read(fresh, 4e9)
    change = ScrapeDelta(now.start, now)
    assert change.grown("heads_created_total") == 3
    assert change.seconds > 1e9
