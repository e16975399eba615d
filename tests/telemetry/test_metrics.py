import re

from headlift.telemetry.instruments import Instrument
from headlift.telemetry.metrics import Metrics, metrics, using

_FORBIDDEN = {"tenant", "head", "name", "call_id", "request_id", "user", "key"}


def instruments(fresh):
    return [value for value in vars(fresh).values() if isinstance(value, Instrument)]


def test_every_name_has_the_prefix_and_the_suffix_of_its_kind():
    for one in instruments(Metrics()):
        description = one.description
        assert re.fullmatch(r"headlift_[a-z]+(_[a-z]+)*", description.name)
        assert description.name.endswith("_total") == (description.kind == "counter"), description.name
        if "bytes" in description.name:
            assert description.name.removesuffix("_total").endswith("_bytes")
        assert description.about.endswith(".")


def test_no_label_can_hold_what_callers_name():
    assert not {label for one in instruments(Metrics()) for label in one.description.labels} & _FORBIDDEN


def test_gpu_memory_is_read_when_metrics_are():
    fresh, asked = Metrics(), []

    def read():
        asked.append(1)
        return [("cuda:0", 3, 8)]

    fresh.watch_gpus(read)
    assert not asked
    assert fresh.registry.get_sample_value("headlift_gpu_memory_used_bytes", {"device": "cuda:0"}) == 3
    assert fresh.registry.get_sample_value("headlift_gpu_memory_total_bytes", {"device": "cuda:0"}) == 8


def test_the_process_tells_its_memory_too():
    assert Metrics().registry.get_sample_value("process_resident_memory_bytes") > 1e6


def test_others_can_stand_in_for_a_while():
    own, other = metrics(), Metrics()
    with using(other) as current:
        assert metrics() is current is other
    assert metrics() is own
