import pytest
from prometheus_client import CollectorRegistry

from headlift.telemetry.instruments import OTHER, VALUES_MAX, Counter, Description, Gauge, Histogram


@pytest.fixture
def registry():
    return CollectorRegistry()


def made(kind, registry, listeners=(), labels=("pool",), buckets=()):
    name = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}[kind]
    return kind(Description(f"x_{name}", name, "About.", labels, buckets), registry, listeners)


def test_a_counter_grows_by_what_is_added(registry):
    counter = made(Counter, registry)
    counter.inc(pool="a")
    counter.inc(2.5, pool="a")
    assert registry.get_sample_value("x_counter_total", {"pool": "a"}) == 3.5


def test_a_gauge_can_be_set_and_rises_and_falls(registry):
    gauge = made(Gauge, registry)
    gauge.set(4, pool="a")
    gauge.inc(-1, pool="a")
    assert registry.get_sample_value("x_gauge", {"pool": "a"}) == 3


def test_a_histogram_counts_each_value_in_every_bucket_that_holds_it(registry):
    histogram = made(Histogram, registry, labels=(), buckets=(1.0, 2.0, 4.0))
    for value in (0.5, 1.5, 3.0, 9.0):
        histogram.observe(value)
    counts = [registry.get_sample_value("x_histogram_bucket", {"le": le}) for le in ("1.0", "2.0", "4.0", "+Inf")]
    assert counts == [1, 2, 3, 4]
    assert registry.get_sample_value("x_histogram_sum") == 14.0


def test_labels_that_callers_invent_end_up_in_one(registry):
    counter = made(Counter, registry)
    for i in range(VALUES_MAX + 20):
        counter.inc(pool=f"p{i}")
    assert registry.get_sample_value("x_counter_total", {"pool": OTHER}) == 20
    counter.inc(pool="p3")
    assert registry.get_sample_value("x_counter_total", {"pool": "p3"}) == 2


@pytest.mark.parametrize("labels", [{}, {"other": "a"}, {"pool": "a", "other": "b"}])
def test_wrong_labels_are_refused(registry, labels):
    counter = made(Counter, registry)
    counter.inc(pool="a")
    with pytest.raises((ValueError, KeyError)):
        counter.inc(**labels)


def test_listeners_hear_of_every_change_even_those_that_come_later(registry):
    listeners, heard = [], []
    gauge, histogram = made(Gauge, registry, listeners), made(Histogram, registry, listeners, buckets=(1.0,))
    gauge.set(1, pool="a")
    listeners.append(lambda description, values, amount: heard.append((description.name, values, amount)))
    gauge.inc(2, pool="a")
    histogram.observe(0.25, pool="b")
    assert heard == [("x_gauge", ("a",), 3), ("x_histogram", ("b",), 0.25)]
