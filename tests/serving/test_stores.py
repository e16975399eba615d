"""A server on real stores: Redis in front of S3."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
from real_s3 import Bucket

from headlift.errors import InvalidInputError, StoreError
from headlift.serving.background import BackgroundServer
from headlift.serving.stores import SweepThread, open_retention, open_stores
from headlift.settings import Settings
from headlift.store.breaker import BreakerStore
from headlift.store.files import FileStore
from headlift.store.heads import HeadStore
from headlift.store.retention import RetentionRule
from headlift.store.sealed import SealedStore
from headlift.store.tiered import TieredStore
from headlift.telemetry.metrics import Metrics, using
from headlift.v1 import head_pb2, head_service_pb2_grpc
from headlift.v1 import head_service_pb2 as pb

OPTIONS = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]


def on_s3(settings, bucket):
    return replace(
        settings,
        s3_endpoint=bucket.server.endpoint,
        s3_access_key=bucket.access_key,
        s3_secret_key=bucket.secret_key,
        s3_bucket=bucket.name,
    )


def on_redis(settings, server):
    return replace(settings, redis_url=server.url, redis_timeout_ms=2000)


def eventually(holds, seconds=30.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.02)


@pytest.fixture
def own(settings, tmp_path) -> Settings:
    return replace(settings, data_dir=tmp_path / "data")


def test_the_settings_name_the_stores(own, redis_server, s3_bucket):
    assert isinstance(open_stores(own).blobs, FileStore)
    assert isinstance(open_stores(on_s3(own, s3_bucket)).blobs, BreakerStore)
    stores = open_stores(on_redis(own, redis_server))
    assert isinstance(stores.blobs, TieredStore)
    stores.close()


def test_reads_writes_and_breakers_are_counted_by_tier_and_stage(own, mortal_redis):
    with using(Metrics()) as counted:
        stores = open_stores(on_redis(own, mortal_redis))
        sealed, key = SealedStore(stores.blobs), f"tenants/a/derived/{'ab' * 32}/tokens-1"
        sealed.get(key, "x")
        sealed.put(key, b"x" * 44, "x")
        sealed.get(key, "x")

        def value(name, **labels):
            return counted.registry.get_sample_value(f"headlift_{name}", labels)

        for tier, outcome, count in (("hot", "miss", 1), ("hot", "hit", 1), ("durable", "miss", 1)):
            assert value("cache_reads_total", tier=tier, stage="tokens", outcome=outcome) == count
        assert value("blob_written_bytes_total", tier="hot") == value("blob_written_bytes_total", tier="durable") == 100
        assert value("blob_read_bytes_total", tier="hot") == 100
        assert value("breaker_open", tier="hot") == 0
        mortal_redis.kill()
        sealed.get(key, "x")
        assert value("breaker_open", tier="hot") == 1
        assert value("cache_reads_total", tier="durable", stage="tokens", outcome="hit") == 1
        stores.close()


def test_what_contradicts_is_refused_with_its_variable(own, s3_bucket, tmp_path):
    with pytest.raises(InvalidInputError, match="HEADLIFT_S3_ENDPOINT"):
        open_stores(replace(own, s3_bucket="heads"))
    with pytest.raises(InvalidInputError, match="HEADLIFT_REDIS_URL"):
        open_stores(replace(own, redis_url="localhost"))
    with pytest.raises(InvalidInputError, match="HEADLIFT_S3_KMS_KEY"):
        open_stores(replace(on_s3(own, s3_bucket), s3_encryption="sse-kms"))
    with pytest.raises(StoreError, match="HEADLIFT_S3_SECRET_KEY"):
        open_stores(replace(on_s3(own, s3_bucket), s3_secret_key="wrong"))
    for text in ("{", "[]", '{"a": {"days": 1}}', '{"a": {"heads_days": -1}}', '{"a": {"heads_days": "1"}}'):
        (tmp_path / "rules.json").write_text(text)
        with pytest.raises(InvalidInputError, match=r"HEADLIFT_RETENTION_FILE|heads_days"):
            open_retention(replace(own, retention_file=tmp_path / "rules.json"))


def test_tenants_own_rules_fall_back_to_the_default(own, tmp_path):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"acme": {"derived_days": 1}}))
    retention = open_retention(replace(own, retention_file=path, derived_days=7.0, heads_days=90.0))
    assert retention.of("acme") == RetentionRule(1, 90.0)
    assert retention.of("other") == RetentionRule(7.0, 90.0)


@contextmanager
def serving(settings):
    with BackgroundServer(settings) as server, grpc.insecure_channel(server.address, OPTIONS) as channel:
        yield head_service_pb2_grpc.HeadServiceStub(channel), server


def keys_left(server):
    """What Redis still holds of tenants: keys, and names in its lists."""
    with server.client() as raw:
        lists = [m.decode() for k in ("names", "lru") for m in raw.zrange("{headlift}:" + k, 0, -1)]
    return [k for k in (*server.held(), *lists) if "tenants" in k and not k.startswith("{headlift}:t:")]


def test_a_head_on_redis_and_s3_is_made_shown_from_the_cache_and_deleted_to_the_last_key(
    own, redis_server, s3_bucket, portrait_png
):
    with serving(on_redis(on_s3(own, s3_bucket), redis_server)) as (stub, _):
        create = pb.CreateHeadRequest(
            parent="tenants/a", picture=portrait_png, request_id="1b4e28ba-2fa1-4d2b-883f-0016d3cca427"
        )
        head = stub.CreateHead(create).head
        assert f"kept/{head.name}/record" in s3_bucket.objects()
        render = pb.RenderHeadRequest(name=head.name)
        first = stub.RenderHead(render)
        assert not any(t.cached for t in first.stage_timings)
        eventually(lambda: any("/renders/" in key for key in redis_server.held()))
        again = stub.RenderHead(render)
        assert again.pictures[0].data == first.pictures[0].data
        assert all(t.cached for t in again.stage_timings)
        other = stub.RenderHead(pb.RenderHeadRequest(name=head.name, picture={"width_px": 64}))
        assert not any(t.cached for t in other.stage_timings)
        assert not any("/renders/" in name for name in s3_bucket.objects())
        eventually(lambda: sum("b:tenants/a/renders/" in key for key in redis_server.held()) == 2)
        stub.DeleteHead(pb.DeleteHeadRequest(name=head.name))
        assert [n for n in s3_bucket.objects() if "tenants" in n] == []
        assert keys_left(redis_server) == []
        for ask in (stub.RenderHead, stub.GetHead):
            with pytest.raises(grpc.RpcError) as caught:
                ask(type(render)(name=head.name) if ask is stub.RenderHead else pb.GetHeadRequest(name=head.name))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_heads_are_served_while_redis_is_frozen_and_deleted_for_good_when_it_is_back(own, mortal_redis, portrait_png):
    with serving(replace(on_redis(own, mortal_redis), redis_timeout_ms=100)) as (stub, server):
        head, doomed = (
            stub.CreateHead(pb.CreateHeadRequest(parent="tenants/a", picture=portrait_png, refine_steps=n)).head
            for n in (0, 1)
        )
        mortal_redis.freeze()
        assert stub.RenderHead(pb.RenderHeadRequest(name=head.name)).pictures[0].data
        made = stub.CreateHead(pb.CreateHeadRequest(parent="tenants/b", picture=portrait_png)).head
        stub.DeleteHead(pb.DeleteHeadRequest(name=doomed.name))
        mortal_redis.thaw()
        eventually(lambda: not server.service.store.blobs.breaker.is_open)
        assert {h.name for h in stub.ListHeads(pb.ListHeadsRequest(parent="tenants/a")).heads} == {head.name}
        assert stub.GetHead(pb.GetHeadRequest(name=made.name)).head.name == made.name
        eventually(lambda: not any(doomed.name in key for key in keys_left(mortal_redis)))


def test_without_s3_hot_heads_are_made_and_durable_ones_refused(own, redis_server, mortal_s3, portrait_png):
    bucket = Bucket(mortal_s3, "heads-hot")
    settings = replace(on_redis(on_s3(own, bucket), redis_server), s3_timeout_s=5.0)
    with serving(settings) as (stub, _):
        durable = pb.CreateHeadRequest(parent="tenants/a", picture=portrait_png)
        head = stub.CreateHead(durable).head
        mortal_s3.kill()
        with pytest.raises(grpc.RpcError) as caught:
            stub.CreateHead(durable)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert str(mortal_s3.port) not in caught.value.details()
        hot = pb.CreateHeadRequest(
            parent="tenants/a",
            picture=portrait_png,
            durability=pb.DURABILITY_HOT,
            request_id="1b4e28ba-2fa1-4d2b-883f-0016d3cca428",
        )
        passing = stub.CreateHead(hot).head
        assert stub.CreateHead(hot).head.name == passing.name
        for name in (head.name, passing.name):
            assert stub.RenderHead(pb.RenderHeadRequest(name=name)).pictures[0].data
        mortal_s3.start()
        eventually(lambda: _deleted(stub, passing.name))
        assert not any(passing.name in name for name in bucket.objects())


def _deleted(stub, name):
    """Whether S3 is back: a deletion is refused until it is."""
    code = stub.DeleteHead.future(pb.DeleteHeadRequest(name=name)).code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    return code is grpc.StatusCode.OK


def test_sweeping_follows_each_tenants_rule_in_all_tiers(own, redis_server, tmp_path):
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"brief": {"derived_days": 1e-9, "heads_days": 1e-9}}))
    settings = replace(on_redis(own, redis_server), retention_file=rules)
    stores = open_stores(settings)
    sealed = SealedStore(stores.blobs)
    heads = HeadStore(sealed, unpack=None, memory_bytes=0)
    for tenant in ("brief", "long"):
        sealed.put(f"tenants/{tenant}/derived/{'ab' * 32}/head-1", b"x", "x")
        sealed.put(f"tenants/{tenant}/heads/h01a1fdaf0803d073ea400e9022ae47ba/links", b"{}", "json")
        record = head_pb2.Head(input_sha256="cd" * 32).SerializeToString()
        sealed.put(f"tenants/{tenant}/heads/h01a1fdaf0803d073ea400e9022ae47ba/record", record, "head")
    time.sleep(0.01)
    sweeper = SweepThread(stores, sealed, heads, settings)
    assert sweeper.sweep_once() == 2
    assert {key.split("/")[1] for key in sealed.list("tenants")} == {"long"}
    assert not any("tenants/brief" in key for key in keys_left(redis_server))
    lease = stores.leases.acquire("sweep")
    assert sweeper.sweep_once() == 0
    stores.leases.release(lease)
    stores.close()


def test_a_server_loads_no_driver_of_a_store_that_is_not_set():
    code = "import sys, headlift.serving.background; print(*{'redis', 'minio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
