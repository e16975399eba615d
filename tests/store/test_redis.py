import random
import subprocess
import time

import pytest
from real_redis import RealRedis

from headlift.errors import InvalidInputError, StoreError, StoreFullError
from headlift.store import redis as hot
from headlift.store.redis import HotLimits, RedisStore
from headlift.store.redis_scripts import NAMESPACE

RECORD = "tenants/a/heads/h/record"


def opened(server, timeout_s=2.0, **limits):
    return RedisStore(hot.connect(server.url, timeout_s), HotLimits(**limits))


def held_bytes(store: RedisStore, tenant: str = "*") -> int:
    """Bytes of blobs of one tenant, or of all, as the scripts count them."""
    return int(store._client.hget(f"{NAMESPACE}bytes", tenant) or 0)


def test_a_deleted_blob_leaves_nothing_but_a_tombstone_that_ends_by_itself(in_redis, redis_server):
    in_redis.put(RECORD, b"x" * 100)
    in_redis.put("tenants/a/derived/f00/head-1", b"x")
    in_redis.delete(RECORD)
    in_redis.delete_all("tenants/a")
    assert all(":t:" in key for key in redis_server.held())
    with redis_server.client() as client:
        assert all(0 < client.pttl(key) <= 30_000 for key in redis_server.held())
    assert held_bytes(in_redis) == held_bytes(in_redis, "a") == 0


def test_a_blob_ends_with_its_time_and_its_name_goes_when_it_is_met(redis_server):
    store = opened(redis_server, keep_s=0.05)
    store.put(RECORD, b"x")
    store.put("tenants/a/heads/h/links", b"x")
    time.sleep(0.1)
    assert store.get(RECORD) is None
    assert list(store.list("tenants")) == []
    assert held_bytes(store) == 0
    assert redis_server.held() == []


def test_bytes_stay_within_the_bound_and_the_least_recently_used_goes_first(redis_server):
    store = opened(redis_server, bytes_max=1000)
    for i in range(10):
        store.put(f"t/{i}", b"x" * 100)
    assert store.get("t/0") is not None
    store.put("t/new", b"x" * 100)
    assert held_bytes(store) == 1000
    assert list(store.list("t")) == ["t/0", *(f"t/{i}" for i in range(2, 10)), "t/new"]


def test_one_tenant_cannot_push_out_the_others(redis_server):
    store = opened(redis_server, bytes_max=10_000, tenant_bytes_max=500)
    store.put("tenants/small/heads/h/record", b"x" * 100)
    for i in range(50):
        store.put(f"tenants/big/heads/h{i:02}/record", b"x" * 100)
    assert held_bytes(store, "big") == 500
    assert held_bytes(store, "small") == 100
    assert store.exists("tenants/small/heads/h/record")
    assert store.exists("tenants/big/heads/h49/record")


def test_the_books_are_right_after_a_thousand_random_steps(redis_server):
    store, generator, model = opened(redis_server), random.Random(0), {}
    for _ in range(1000):
        key = f"tenants/{generator.choice('ab')}/heads/h{generator.randrange(20)}/record"
        if generator.random() < 0.6:
            model[key] = bytes(generator.randrange(1, 300))
            store.put(key, model[key])
        elif generator.random() < 0.9:
            assert store.delete(key) == (model.pop(key, None) is not None)
        else:
            prefix = key.rsplit("/", 1)[0]
            gone = [k for k in model if k.startswith(prefix + "/")]
            assert store.delete_all(prefix) == len(gone)
            for k in gone:
                del model[k]
    assert list(store.list("tenants")) == sorted(model)
    for tenant in "ab":
        assert held_bytes(store, tenant) == sum(len(v) for k, v in model.items() if k.startswith(f"tenants/{tenant}/"))
    assert held_bytes(store) == sum(map(len, model.values()))


def test_a_blob_over_the_bound_is_refused_and_the_old_one_does_not_stand_for_it(redis_server):
    store = opened(redis_server, bytes_max=1000)
    store.put(RECORD, b"old")
    with pytest.raises(StoreFullError, match="HEADLIFT_HOT_BYTES"):
        store.put(RECORD, b"x" * 1001)
    assert store.get(RECORD) is None


def test_what_was_fetched_before_a_deletion_is_not_kept_after_it(in_redis):
    _, stamp = in_redis.get_stamped(RECORD)
    in_redis.delete_all("tenants/a/heads/h")
    assert not in_redis.put_stamped(RECORD, b"deleted elsewhere", stamp)
    assert in_redis.get(RECORD) is None
    _, stamp = in_redis.get_stamped(RECORD)
    assert in_redis.put_stamped(RECORD, b"made anew", stamp)


def test_a_write_that_was_under_way_for_too_long_is_refused(in_redis):
    assert not in_redis.put_stamped(RECORD, b"late", in_redis.stamp() - 31_000_000)
    assert in_redis.put_stamped(RECORD, b"in time", in_redis.stamp() - 20_000_000)


def test_thousands_of_keys_are_listed_and_deleted_in_pages(in_redis):
    keys = [f"tenants/a/renders/h/{i:05}" for i in range(1300)]
    for key in keys:
        in_redis.put(key, b"x")
    assert list(in_redis.list("tenants/a/renders")) == keys
    assert in_redis.delete_all("tenants/a/renders/h") == 1300
    assert list(in_redis.list("tenants")) == []


def test_without_memory_old_blobs_make_room(redis_installed, tmp_path):
    server = RealRedis(tmp_path, "--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    server.start()
    try:
        store = opened(server)
        for i in range(20):
            store.put(f"t/{i:02}", bytes(1 << 20))
        assert store.exists("t/19")
        assert not store.exists("t/00")
        with pytest.raises(StoreFullError):
            store.put("t/large", bytes(12 << 20))
        assert store.get("t/large") is None
    finally:
        server.kill()


def test_what_redis_evicts_by_itself_is_a_miss_and_leaves_the_list(redis_server, in_redis):
    in_redis.put(RECORD, b"x")
    with redis_server.client() as client:
        (key,) = (k for k in client.scan_iter() if b":b:" in k)
        client.delete(key)
    assert in_redis.get(RECORD) is None
    assert list(in_redis.list("tenants")) == []
    assert held_bytes(in_redis) == 0


def test_an_eviction_policy_that_drops_the_list_is_refused_with_the_way_out(redis_installed, tmp_path):
    server = RealRedis(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    try:
        with pytest.raises(StoreError, match="set its maxmemory-policy to noeviction"):
            opened(server).probe()
    finally:
        server.kill()


def test_scripts_are_known_again_after_a_restart(mortal_redis):
    store = opened(mortal_redis)
    store.put(RECORD, b"x")
    mortal_redis.kill()
    mortal_redis.start()
    assert store.get(RECORD) is None
    store.put(RECORD, b"y")
    assert store.get(RECORD) == b"y"


def test_a_wrong_password_is_said_so_without_password_or_address(redis_server):
    store = RedisStore(hot.connect(f"redis://:hush@127.0.0.1:{redis_server.port}/0", 2.0))
    with pytest.raises(StoreError, match="HEADLIFT_REDIS_URL") as caught:
        store.get(RECORD)
    assert caught.value.reason == "STORE_REFUSED"
    assert "hush" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message


def test_a_server_that_is_away_is_a_store_error_without_its_address(mortal_redis):
    store = opened(mortal_redis)
    mortal_redis.kill()
    with pytest.raises(StoreError) as caught:
        store.get(RECORD)
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert str(mortal_redis.port) not in caught.value.message


def test_a_url_of_something_else_is_refused_without_repeating_it():
    with pytest.raises(InvalidInputError) as caught:
        hot.connect("http://user:hush@host/0", 1.0)
    assert "hush" not in caught.value.message


def test_a_certificate_of_a_stranger_is_refused(redis_installed, tmp_path):
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    server = RealRedis(tmp_path)
    tls_port = server.port
    options = ["--tls-port", str(tls_port), "--port", "0", "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]
    options += ["--tls-auth-clients", "no", "--dir", str(tmp_path), "--save", ""]
    process = subprocess.Popen(["redis-server", *options], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        trusting = RedisStore(hot.connect(f"rediss://localhost:{tls_port}/0?ssl_ca_certs={tmp_path}/cert.pem", 2.0))
        until = time.monotonic() + 10
        while True:
            try:
                trusting.put(RECORD, b"x")
                break
            except StoreError:
                assert time.monotonic() < until
                time.sleep(0.05)
        assert trusting.get(RECORD) == b"x"
        with pytest.raises(StoreError):
            RedisStore(hot.connect(f"rediss://localhost:{tls_port}/0", 2.0)).get(RECORD)
    finally:
        process.kill()
        process.wait()
