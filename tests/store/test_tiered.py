"""Two tiers, and what happens when either of them is away, stalls, lies or comes back."""

import threading
import time

import pytest

from headlift.errors import CorruptBlobError, StoreError
from headlift.store import redis as hot
from headlift.store.blobs import Durability
from headlift.store.breaker import Breaker, BreakerStore
from headlift.store.envelope import seal
from headlift.store.files import FileStore
from headlift.store.redis import RedisStore
from headlift.store.sealed import SealedStore
from headlift.store.tiered import TieredStore

RECORD, OTHER = "tenants/a/heads/h/record", "tenants/a/heads/g/record"
ONE, TWO = seal(b"one", "x"), seal(b"two", "x")
HOT = Durability.HOT


def eventually(holds, seconds=20.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.01)


def quick(tier, revive):
    return Breaker(tier, revive, first_s=0.05, longest_s=0.2)


@pytest.fixture
def durable(tmp_path):
    return FileStore(tmp_path / "durable")


@pytest.fixture
def mortal(mortal_redis, durable):
    """Tiers over a Redis that dies; waits are as short as in earnest."""
    seen = []
    store = TieredStore(
        RedisStore(hot.connect(mortal_redis.url, 0.1)),
        durable,
        breaker=quick,
        on_access=lambda *what: seen.append(what[:3]),
    )
    store.seen = seen
    yield store
    store.close()


def flip(blobs, key):
    """Damage a blob where it lies."""
    blob = bytearray(blobs.get(key))
    blob[-1] ^= 1
    blobs.put(key, bytes(blob))


def test_a_write_is_durable_and_hot_and_a_read_is_served_by_the_hot_tier(tiers, in_redis, tmp_path):
    tiers.put(RECORD, ONE)
    assert FileStore(tmp_path / "durable").get(RECORD) == ONE
    FileStore(tmp_path / "durable").delete(RECORD)
    assert tiers.get(RECORD) == ONE


def test_what_only_the_durable_tier_has_is_hot_after_the_first_read(tiers, in_redis, durable):
    durable.put(RECORD, ONE)
    assert tiers.get(RECORD) == ONE
    assert in_redis.get(RECORD) == ONE


def test_a_hot_write_leaves_nothing_in_the_durable_tier(tiers, durable, in_redis):
    tiers.put(RECORD, ONE, durability=HOT)
    assert tiers.get(RECORD) == ONE
    assert tiers.exists(RECORD)
    assert list(tiers.list("tenants")) == [RECORD]
    assert not durable.exists(RECORD)
    assert tiers.delete(RECORD)
    assert not tiers.exists(RECORD)
    tiers.put(RECORD, ONE, durability=HOT)
    assert tiers.delete_all("tenants/a") == 1
    assert list(tiers.list("tenants")) == list(in_redis.list("tenants")) == []


def test_both_tiers_are_listed_as_one(tiers, durable):
    durable.put("t/b", ONE)
    tiers.put("t/a", ONE, durability=HOT)
    tiers.put("t/c", ONE)
    assert list(tiers.list("t")) == ["t/a", "t/b", "t/c"]


@pytest.mark.parametrize("end", ["kill", "freeze"])
def test_without_redis_everything_is_served_and_it_is_asked_a_few_times_only(mortal, mortal_redis, durable, end):
    mortal.put(RECORD, ONE)
    getattr(mortal_redis, end)()
    for i in range(50):
        assert mortal.get(RECORD) == ONE
        mortal.put(f"t/{i}", TWO)
        assert mortal.get(f"t/{i}") == TWO
        assert durable.exists(f"t/{i}")
    assert mortal.breaker.is_open
    mortal.seen.clear()
    for _ in range(20):
        assert mortal.get(RECORD) == ONE
    assert {tier for tier, *_ in mortal.seen} == {"durable"}
    mortal_redis.start() if end == "kill" else mortal_redis.thaw()
    eventually(lambda: not mortal.breaker.is_open)
    mortal.seen.clear()
    # More than once: on a busy machine a wait as short as in earnest may be over before Redis gets its turn.
    eventually(lambda: mortal.get(RECORD) == ONE and ("hot", "record", "hit") in mortal.seen)


def test_a_redis_that_was_never_there_is_waited_for_in_the_background(mortal_redis, durable):
    mortal_redis.kill()
    store = TieredStore(RedisStore(hot.connect(mortal_redis.url, 5.0)), durable, breaker=quick)
    store.put(RECORD, ONE)
    assert store.get(RECORD) == ONE
    mortal_redis.start()
    eventually(lambda: not store.breaker.is_open)
    store.get(RECORD)
    durable.delete(RECORD)
    assert store.get(RECORD) == ONE
    store.close()


@pytest.mark.parametrize("forget", ["delete", "delete_all"])
def test_what_was_deleted_while_redis_was_frozen_does_not_come_back_with_it(mortal, mortal_redis, durable, forget):
    mortal.put(RECORD, ONE)
    mortal_redis.freeze()
    if forget == "delete":
        mortal.delete(RECORD)
    else:
        mortal.delete_all("tenants/a/heads/h")
    assert mortal.get(RECORD) is None
    mortal_redis.thaw()
    eventually(lambda: not mortal.breaker.is_open)
    assert mortal.get(RECORD) is None
    eventually(lambda: list(durable.list("system")) == [])


def test_a_deletion_survives_the_process_that_could_not_tell_redis(mortal, mortal_redis, durable):
    mortal.put(RECORD, ONE)
    mortal_redis.freeze()
    mortal.delete(RECORD)
    mortal.close()  # the process is gone before Redis is back
    mortal_redis.thaw()
    second = TieredStore(RedisStore(hot.connect(mortal_redis.url, 2.0)), durable, breaker=quick)
    assert second.get(RECORD) is None
    eventually(lambda: list(durable.list("system")) == [])
    assert second.get(RECORD) is None
    second.close()


def test_what_was_written_anew_while_redis_was_frozen_replaces_what_it_held(mortal, mortal_redis):
    mortal.put(RECORD, ONE)
    mortal_redis.freeze()
    mortal.put(RECORD, TWO)
    mortal_redis.thaw()
    eventually(lambda: not mortal.breaker.is_open)
    assert mortal.get(RECORD) == TWO


def test_a_hot_write_without_redis_is_durable(mortal, mortal_redis, durable):
    mortal_redis.kill()
    mortal.put(RECORD, ONE, durability=HOT)
    assert durable.get(RECORD) == ONE


def test_a_reader_that_is_overtaken_by_a_deletion_leaves_nothing(in_redis, durable):
    class Slow:
        """A durable tier whose answers take a while."""

        def __init__(self):
            self.read, self.go_on = threading.Event(), threading.Event()

        def get(self, key):
            blob = durable.get(key)
            if key == RECORD:
                self.read.set()
                assert self.go_on.wait(20)
            return blob

        def __getattr__(self, name):
            return getattr(durable, name)

    slow = Slow()
    store = TieredStore(in_redis, slow, breaker=quick)
    durable.put(RECORD, ONE)
    reader = threading.Thread(target=store.get, args=(RECORD,))
    reader.start()
    assert slow.read.wait(20)
    store.delete(RECORD)
    slow.go_on.set()
    reader.join()
    assert in_redis.get(RECORD) is None
    store.close()


def test_damage_in_the_hot_tier_is_counted_and_mended_from_the_durable_one(in_redis, durable):
    seen = []
    store = TieredStore(in_redis, durable, breaker=quick, on_access=lambda *what: seen.append(what[:3]))
    sealed = SealedStore(store)
    sealed.put(RECORD, b"payload", "x")
    flip(in_redis, RECORD)
    assert sealed.get(RECORD, "x") == b"payload"
    assert ("hot", "record", "corrupt") in seen
    assert sealed.corrupt_count == 1
    assert in_redis.get(RECORD) == seal(b"payload", "x")
    assert sealed.get(RECORD, "x") == b"payload"
    assert sealed.corrupt_count == 1
    store.close()


def test_damage_in_the_durable_tier_never_reaches_the_hot_one(in_redis, durable):
    seen = []
    store = TieredStore(in_redis, durable, breaker=quick, on_access=lambda *what: seen.append(what[:3]))
    sealed = SealedStore(store)
    sealed.put(RECORD, b"payload", "x")
    flip(durable, RECORD)
    assert sealed.get(RECORD, "x") == b"payload"  # hot
    in_redis.delete(RECORD)
    with pytest.raises(CorruptBlobError):
        sealed.get(RECORD, "x")
    assert in_redis.get(RECORD) is None
    assert ("durable", "record", "corrupt") in seen
    store.close()


def test_every_flipped_byte_that_redis_returns_is_detected_and_mended(in_redis, durable):
    sealed = SealedStore(TieredStore(in_redis, durable, breaker=quick))
    sealed.put(RECORD, b"payload", "x")
    whole = in_redis.get(RECORD)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x40
        in_redis.put(RECORD, bytes(damaged))
        assert sealed.get(RECORD, "x") == b"payload"
        assert in_redis.get(RECORD) == whole
    assert sealed.corrupt_count == len(whole)


class TestWithoutS3:
    """The durable tier dies; the hot one goes on."""

    @pytest.fixture
    def store(self, mortal_s3, s3_over, in_redis):
        durable = s3_over(mortal_s3)
        breaker = Breaker("durable", durable.probe, failures_max=2, first_s=0.05, longest_s=0.2)
        store = TieredStore(in_redis, BreakerStore(durable, breaker), breaker=quick)
        store.durable_breaker = breaker
        yield store
        store.close()
        breaker.close()

    @pytest.mark.parametrize("end", ["kill", "freeze"])
    def test_hot_reads_go_on_and_nothing_is_acknowledged_that_is_not_durable(self, store, mortal_s3, in_redis, end):
        store.put(RECORD, ONE)
        getattr(mortal_s3, end)()
        try:
            for _ in range(4):
                with pytest.raises(StoreError) as caught:
                    store.put(OTHER, TWO)
                assert caught.value.code == "UNAVAILABLE"
                assert "127.0.0.1" not in caught.value.message
                assert store.get(RECORD) == ONE
                assert store.exists(RECORD)
            assert store.durable_breaker.is_open
            assert in_redis.get(OTHER) is None
            store.put(OTHER, TWO, durability=HOT)
            assert store.get(OTHER) == TWO
            with pytest.raises(StoreError):
                store.get("tenants/a/heads/cold/record")
            with pytest.raises(StoreError):
                store.delete(RECORD)
            assert store.get(RECORD) == ONE
        finally:
            mortal_s3.start() if end == "kill" else mortal_s3.thaw()
        eventually(lambda: not store.durable_breaker.is_open)
        assert store.delete(RECORD)
        assert store.delete_all("tenants/a") == 1
        assert list(store.list("tenants")) == []
