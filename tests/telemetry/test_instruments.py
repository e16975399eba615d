import pytest
from prometheus_client import CollectorRegistry

from headlift.telemetry.instruments import OTHER, VALUES_MAX, Count, Description, Level, Spread


@pytest.fixture
def registry():
    return CollectorRegistry()


def made(kind, registry, listeners=(), labels=("pool",), buckets=()):
    name = {Count: "counter", Level: "gauge", Spread: "histogram"}[kind]
    return kind(Description(f"x_{name}", name, "About.", labels, buckets), registry, listeners)


def test_a_count_grows_by_what_is_added(registry):
    count = made(Count, registry)
    count.add(pool="a")
    count.add(2.5, pool="a")
    assert registry.get_sample_value("x_counter_total", {"pool": "a"}) == 3.5


def test_a_level_can_be_set_and_moved(registry):
    level = made(Level, registry)
    level.set(4, pool="a")
    level.move(-1, pool="a")
    assert registry.get_sample_value("x_gauge", {"pool": "a"}) == 3


def test_a_spread_counts_each_value_in_every_bucket_that_holds_it(registry):
    spread = made(Spread, registry, labels=(), buckets=(1.0, 2.0, 4.0))
    for value in (0.5, 1.5, 3.0, 9.0):
        spread.see(value)
    counts = [registry.get_sample_value("x_histogram_bucket", {"le": le}) for le in ("1.0", "2.0", "4.0", "+Inf")]
    assert counts == [1, 2, 3, 4]
    assert registry.get_sample_value("x_histogram_sum") == 14.0


def test_labels_that_callers_invent_end_up_in_one(registry):
    count = made(Count, registry)
    for i in range(VALUES_MAX + 20):
        count.add(pool=f"p{i}")
    assert registry.get_sample_value("x_counter_total", {"pool": OTHER}) == 20
    count.add(pool="p3")
    assert registry.get_sample_value("x_counter_total", {"pool": "p3"}) == 2


@pytest.mark.parametrize("labels", [{}, {"other": "a"}, {"pool": "a", "other": "b"}])
def test_wrong_labels_are_refused(registry, labels):
    count = made(Count, registry)
    count.add(pool="a")
    with pytest.raises((ValueError, KeyError)):
        count.add(**labels)


def test_listeners_hear_of_every_change_even_those_that_come_later(registry):
    listeners, heard = [], []
    level, spread = made(Level, registry, listeners), made(Spread, registry, listeners, buckets=(1.0,))
    level.set(1, pool="a")
    listeners.append(lambda described, values, amount: heard.append((described.name, values, amount)))
    level.move(2, pool="a")
    spread.see(0.25, pool="b")
    assert heard == [("x_gauge", ("a",), 3), ("x_histogram", ("b",), 0.25)]
