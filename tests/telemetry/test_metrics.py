import re

from headlift.telemetry.instruments import Instrument
from headlift.telemetry.metrics import Metrics, metrics, using

_FORBIDDEN = {"tenant", "head", "name", "call_id", "request_id", "user", "key"}


def instruments(seen):
    return [value for value in vars(seen).values() if isinstance(value, Instrument)]


def test_every_name_has_the_prefix_and_the_suffix_of_its_kind():
    for one in instruments(Metrics()):
        described = one.described
        assert re.fullmatch(r"headlift_[a-z]+(_[a-z]+)*", described.name)
        assert described.name.endswith("_total") == (described.kind == "counter"), described.name
        if "bytes" in described.name:
            assert described.name.removesuffix("_total").endswith("_bytes")
        assert described.about.endswith(".")


def test_no_label_can_hold_what_callers_name():
    assert not {label for one in instruments(Metrics()) for label in one.described.labels} & _FORBIDDEN


def test_gpu_memory_is_read_when_metrics_are():
    seen, asked = Metrics(), []

    def read():
        asked.append(1)
        return [("cuda:0", 3, 8)]

    seen.watch_gpus(read)
    assert not asked
    assert seen.registry.get_sample_value("headlift_gpu_memory_used_bytes", {"device": "cuda:0"}) == 3
    assert seen.registry.get_sample_value("headlift_gpu_memory_total_bytes", {"device": "cuda:0"}) == 8


def test_the_process_tells_its_memory_too():
    assert Metrics().registry.get_sample_value("process_resident_memory_bytes") > 1e6


def test_others_can_stand_in_for_a_while():
    own, other = metrics(), Metrics()
    with using(other) as current:
        assert metrics() is current is other
    assert metrics() is own
