import threading
import time

import pytest

from headlift.errors import StoreError
from headlift.store import stages
from headlift.store.blobs import Durability
from headlift.store.files import FileStore
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache, StageKey

KEY = StageKey("a", "ab" * 32, "tokens", {"x": 1}, "w")


class Once:
    """A stage that counts its runs and keeps what it made in the cache."""

    def __init__(self, cache, durability=Durability.DURABLE):
        self.cache, self.count, self._durability = cache, 0, durability

    def compute(self):
        self.count += 1
        time.sleep(0.1)
        self.cache.put(KEY, b"made", "x", self._durability)
        return b"made"

    def ask(self):
        return self.cache.once(KEY, lambda: self.cache.get(KEY, "x"), self.compute)


def all_at_once(count, ask):
    results = []
    threads = [threading.Thread(target=lambda: results.append(ask())) for _ in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_a_hundred_equal_requests_compute_once_and_later_ones_not_at_all(tmp_path):
    stage = Once(StageCache(SealedStore(FileStore(tmp_path))))
    assert all_at_once(100, stage.ask) == [b"made"] * 100
    assert stage.count == 1
    later = Once(StageCache(SealedStore(FileStore(tmp_path))))
    assert later.ask() == b"made"
    assert later.count == 0


def test_a_result_of_older_code_is_not_taken(tmp_path, monkeypatch):
    cache = StageCache(SealedStore(FileStore(tmp_path)))
    with monkeypatch.context() as older:
        older.setattr(stages, "_CODE", 1)
        assert Once(cache).ask() == b"made"
        assert Once(cache).ask() == b"made"
    stage = Once(cache)
    stage.ask()
    stage.ask()
    assert stage.count == 1


def test_a_damaged_result_is_computed_once_more(tmp_path):
    files = FileStore(tmp_path)
    stage = Once(StageCache(SealedStore(files)))
    stage.ask()
    blob = bytearray(files.get(KEY.path()))
    blob[-1] ^= 1
    files.put(KEY.path(), bytes(blob))
    assert all_at_once(20, stage.ask) == [b"made"] * 20
    assert stage.count == 2


def test_a_cache_that_is_switched_off_keeps_nothing(tmp_path):
    stage = Once(StageCache(SealedStore(FileStore(tmp_path)), enabled=False))
    assert stage.ask() == stage.ask() == b"made"
    assert stage.count == 2
    assert list(FileStore(tmp_path).list("tenants")) == []


def test_a_store_that_fails_costs_the_cache_but_no_answer(tmp_path):
    class Dead:
        def fail(self, *args, **options):
            raise StoreError("away")

        def __getattr__(self, name):
            return self.fail

    cache = StageCache(SealedStore(Dead()))
    assert Once(cache).ask() == b"made"
    cache.forget("a", "ab" * 32)


def test_what_was_derived_for_a_hot_head_is_not_kept_durably(tiers, tmp_path):
    stage = Once(StageCache(SealedStore(tiers)), Durability.HOT)
    assert stage.ask() == stage.ask() == b"made"
    assert stage.count == 1
    assert list(FileStore(tmp_path / "durable").list("tenants")) == []


@pytest.mark.parametrize("count", [1, 30])
def test_a_faulty_stage_is_told_to_everybody(tmp_path, count):
    cache = StageCache(SealedStore(FileStore(tmp_path)))

    def fail():
        time.sleep(0.05)
        raise ValueError("no head")

    def ask():
        try:
            cache.once(KEY, lambda: None, fail)
        except ValueError as error:
            return str(error)

    assert all_at_once(count, ask) == ["no head"] * count
