"""What every blob store must hold, on every backend."""

import threading
import time

import pytest

from headlift.errors import StoreError
from headlift.store.blobs import Durability, kind_of
from headlift.store.envelope import seal

ONE, TWO = seal(b"one", "x"), seal(b"two" * 1000, "x")


def test_what_was_put_is_got_listed_and_deleted(blobs):
    keys = ["tenants/a/derived/f00/head-1", "tenants/a/heads/h1/record", "tenants/a/heads/h2/record"]
    for key in [*keys, "tenants/b/heads/h3/record"]:
        blobs.put(key, ONE)
    assert blobs.get(keys[1]) == ONE
    assert blobs.exists(keys[1])
    assert list(blobs.list("tenants/a")) == keys
    assert list(blobs.list("tenants/a/heads")) == keys[1:]
    assert list(blobs.list("tenants/a/derived/f00")) == keys[:1]
    assert list(blobs.list("tenants")) == [*keys, "tenants/b/heads/h3/record"]
    assert blobs.delete(keys[1])
    assert not blobs.delete(keys[1])
    assert blobs.get(keys[1]) is None
    assert not blobs.exists(keys[1])
    assert list(blobs.list("tenants/a/heads")) == keys[2:]


def test_a_later_put_replaces_an_earlier_one(blobs):
    blobs.put("a/b", ONE)
    blobs.put("a/b", TWO)
    assert blobs.get("a/b") == TWO
    blobs.put("a/b", ONE, durability=Durability.HOT)
    assert blobs.get("a/b") == ONE
    assert list(blobs.list("a")) == ["a/b"]


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_any_bytes_come_back_whole(blobs, size):
    blob = bytes(i * 7 & 255 for i in range(size))
    blobs.put("a/b", blob)
    assert blobs.get("a/b") == blob


def test_keys_are_listed_in_the_order_of_their_bytes(blobs):
    keys = ["t/a-b/c", "t/a/c", "t/a.b/c", "t/a0/c", "t/a_b/c", "t/b", "t/a/b-c", "t/a/b"]
    for key in keys:
        blobs.put(key, ONE)
    assert list(blobs.list("t")) == sorted(keys)
    assert list(blobs.list("t/a")) == ["t/a/b", "t/a/b-c", "t/a/c"]
    assert list(blobs.list("t/nothing")) == []


def test_entries_tell_when_a_blob_was_written(blobs):
    blobs.put("tenants/a/derived/f00/head-1", ONE)
    (entry,) = blobs.entries("tenants")
    assert entry.key == "tenants/a/derived/f00/head-1"
    assert abs(entry.time_s - time.time()) < 60


def test_all_below_a_prefix_is_deleted_and_nothing_beside_it(blobs):
    for key in ("t/a/1", "t/a/2/3", "t/ab/1", "t/a-b/1"):
        blobs.put(key, ONE)
    assert blobs.delete_all("t/a") == 2
    assert blobs.delete_all("t/a") == 0
    assert list(blobs.list("t")) == ["t/a-b/1", "t/ab/1"]
    blobs.put("t/a/1", TWO)
    assert blobs.get("t/a/1") == TWO


def test_one_tenant_never_sees_or_deletes_what_is_anothers(blobs):
    blobs.put("tenants/a/heads/h/record", ONE)
    blobs.put("tenants/ab/heads/h/record", TWO)
    assert list(blobs.list("tenants/a")) == ["tenants/a/heads/h/record"]
    assert blobs.delete_all("tenants/a") == 1
    assert blobs.get("tenants/ab/heads/h/record") == TWO


@pytest.mark.parametrize("key", ["", "..", "a/../b", "a//b", "/a", "A", "a/", "a\0b", "é", "a\n", "a/" * 20 + "b"])
def test_a_bad_key_is_refused_by_every_verb(blobs, key):
    for act in (
        blobs.get,
        blobs.exists,
        blobs.delete,
        blobs.delete_all,
        lambda k: blobs.put(k, b""),
        lambda k: list(blobs.list(k)),
    ):
        with pytest.raises(StoreError) as caught:
            act(key)
        assert caught.value.reason == "BAD_KEY"


def test_another_copy_of_a_damaged_blob_differs_from_it_or_there_is_none(blobs):
    blobs.put("a/b", ONE)
    assert blobs.get_again("a/b", ONE[:-1] + b"?") == ONE
    assert blobs.get_again("a/none", b"damaged") is None


def test_many_threads_do_not_disturb_each_other(blobs):
    faults = []

    def churn(i):
        try:
            blob = seal(bytes([i]) * 5000, "x")
            for _ in range(4):
                blobs.put(f"t/{i}/blob", blob)
                assert blobs.get(f"t/{i}/blob") == blob
                assert blobs.delete(f"t/{i}/blob")
                assert blobs.get(f"t/{i}/blob") is None
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=churn, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults
    assert list(blobs.list("t")) == []


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("tenants/a/derived/f00/gaussians-0123", "gaussians"),
        ("tenants/a/heads/h1/record", "record"),
        ("tenants/a/renders/h1/0123", "render"),
        ("tenants/a/requests/1b4e28ba-2fa1-4d2b-883f-0016d3cca427", "request"),
        ("system/page-secret", "other"),
    ],
)
def test_kinds_are_a_few_words_without_names_of_tenants_or_heads(key, kind):
    assert kind_of(key) == kind
