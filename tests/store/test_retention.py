import pytest
from google.longrunning import operations_pb2

from headlift.errors import InvalidInputError
from headlift.store.files import FileStore
from headlift.store.heads import HeadName, HeadStore
from headlift.store.operations import OperationName, OperationStore
from headlift.store.retention import Retention, RetentionRule, Sweeper
from headlift.store.sealed import SealedStore
from headlift.v1 import batch_service_pb2 as pb
from headlift.v1 import head_pb2

DAY = 86_400.0


@pytest.fixture
def sealed(tmp_path):
    return SealedStore(FileStore(tmp_path))


def filled(sealed, now, tenant="a"):
    heads = HeadStore(sealed, unpack=lambda _: None, memory_bytes=0, clock=lambda: now)
    for key in ("derived/" + "ab" * 32 + "/head-1", "renders/h1/01", "requests/1b4e28ba-2fa1-4d2b-883f-0016d3cca427"):
        sealed.put(f"tenants/{tenant}/{key}", b"x", "x")
    for name in ("gaussians", "links", "record"):
        ident = f"h{int(now * 1000):012x}{'0' * 20}"
        payload = head_pb2.Head(input_sha256="cd" * 32).SerializeToString() if name == "record" else b"{}"
        sealed.put(f"tenants/{tenant}/heads/{ident}/{name}", payload, "head" if name == "record" else "json")
    return heads


def written_s(sealed):
    return max(entry.time_s for entry in sealed.entries("tenants"))


def rooms(sealed):
    return sorted({key.split("/")[2] for key in sealed.list("tenants")})


@pytest.mark.parametrize(
    ("keep", "days", "left"),
    [
        (RetentionRule(30, 0), 0.5, ["derived", "heads", "renders", "requests"]),
        (RetentionRule(30, 0), 2, ["derived", "heads", "renders"]),
        (RetentionRule(30, 0), 31, ["heads"]),
        (RetentionRule(0, 10), 9, ["derived", "heads", "renders"]),
        (RetentionRule(0, 10), 11, ["derived", "renders"]),
        (RetentionRule(0, 0), 10_000, ["derived", "heads", "renders"]),
    ],
)
def test_what_is_older_than_the_rule_goes_and_nothing_else(sealed, keep, days, left):
    heads = filled(sealed, 1e9)
    now = written_s(sealed)
    heads = filled(sealed, now)
    for entry in list(sealed.list("tenants/a/heads")):
        if f"{int(now * 1000):012x}" not in entry:
            sealed.delete(entry)
    Sweeper(sealed, heads, Retention(keep), clock=lambda: now + days * DAY).sweep()
    assert rooms(sealed) == left


def test_a_tenants_own_rule_wins(sealed):
    heads = filled(sealed, 2e9, "a")
    filled(sealed, 2e9, "b")
    retention = Retention(RetentionRule(30, 0), {"b": RetentionRule(1, 0)})
    Sweeper(sealed, heads, retention, clock=lambda: written_s(sealed) + 1.5 * DAY).sweep()
    assert list(sealed.list("tenants/a/derived"))
    assert not list(sealed.list("tenants/b/derived"))


def test_a_head_of_a_foreign_name_is_judged_by_its_file(sealed):
    heads = HeadStore(sealed, unpack=lambda _: None, memory_bytes=0)
    sealed.put("tenants/a/heads/imported/record", head_pb2.Head().SerializeToString(), "head")
    sweeper = Sweeper(sealed, heads, Retention(RetentionRule(1, 1)), clock=lambda: written_s(sealed) + 3600)
    assert sweeper.sweep() == 0
    assert heads.exists(HeadName("a", "imported"))


def test_one_damaged_head_does_not_stop_the_sweep(sealed):
    heads = filled(sealed, 1e9)
    sealed.blobs.put("tenants/a/heads/h000000000001" + "0" * 20 + "/record", b"no envelope")
    removed = Sweeper(sealed, heads, Retention(RetentionRule(0, 1)), clock=lambda: 1e9 + 2 * DAY).sweep()
    assert removed == 2
    assert "heads" not in rooms(sealed)


def test_operations_go_once_they_are_over_and_old(sealed):
    heads, operations = HeadStore(sealed, unpack=lambda _: None, memory_bytes=0), OperationStore(sealed)
    over, running = (OperationName("a", name) for name in ("over", "running"))
    for name in (over, running):
        message = operations_pb2.Operation(name=str(name))
        operations.begin(name, message, pb.BatchCreateHeadsRequest(), "")
    operations.end(over, operations_pb2.Operation(name=str(over), done=True))

    def sweep(days):
        Sweeper(sealed, heads, Retention(RetentionRule(30, 0)), clock=lambda: written_s(sealed) + days * DAY).sweep()
        return [o.name for o in operations.list("a", limit=9)]

    assert sweep(29) == [str(over), str(running)]
    assert sweep(31) == [str(running)]
    assert not list(sealed.list(str(over)))


@pytest.mark.parametrize("days", [-1, "1", True, float("nan"), 1e9])
def test_days_must_be_days(days):
    with pytest.raises(InvalidInputError):
        RetentionRule(derived_days=days)
