import base64
import contextlib
import hashlib
import io
import socket
import threading
import uuid
from dataclasses import replace

import pytest
from minio.sse import SseS3

from headlift.errors import CorruptBlobError, InvalidInputError, NotFoundError, StoreError
from headlift.store import s3_client
from headlift.store.s3 import S3Store, lifecycle_rules, object_name
from headlift.store.sealed import SealedStore

RECORD = "tenants/a/heads/h/record"


def opened(bucket, **options):
    client = s3_client.connect(bucket.server.endpoint, bucket.access_key, bucket.secret_key, "us-east-1", 20.0)
    return S3Store(client, bucket.name, **options)


def test_the_bucket_is_made_and_used_again(s3_bucket):
    opened(s3_bucket).put(RECORD, b"x")
    assert opened(s3_bucket).get(RECORD) == b"x"


def test_what_can_be_computed_again_lies_apart_so_that_a_lifecycle_rule_can_expire_it(s3_bucket):
    store = opened(s3_bucket)
    for key in (RECORD, "tenants/a/derived/f00/head-1", "system/page-secret"):
        store.put(key, b"x")
    assert sorted(s3_bucket.objects()) == [
        "derived/tenants/a/derived/f00/head-1",
        "kept/system/page-secret",
        f"kept/{RECORD}",
    ]
    assert object_name("tenants/derived/heads/h/record").startswith("kept/")


def test_a_large_blob_travels_in_parts_and_comes_back_whole(s3_bucket):
    store, blob = opened(s3_bucket, part_bytes=5 << 20), uuid.uuid4().bytes * 700_000
    store.put(RECORD, blob)
    assert store.get(RECORD) == blob
    found = s3_bucket.server.client().stat_object(bucket_name=s3_bucket.name, object_name=object_name(RECORD))
    assert (found.etag or "").endswith("-3")
    assert store.delete(RECORD)
    assert s3_bucket.objects() == {}


def test_many_objects_are_deleted_at_once(s3_bucket):
    store = opened(s3_bucket)
    client, count = s3_bucket.server.client(), 12
    for i in range(count):
        client.put_object(bucket_name=s3_bucket.name, object_name=f"kept/t/a/{i:04}", data=io.BytesIO(b"x"), length=1)
    assert list(store.list("t/a")) == [f"t/a/{i:04}" for i in range(count)]
    assert store.delete_all("t/a") == count
    assert s3_bucket.objects() == {}


class Wire:
    """A TCP proxy between client and server that keeps, and may change, what passes."""

    def __init__(self, port, change=lambda data: data, back=lambda data: data):
        self.sent = b""
        self._target, self._change, self._back = port, change, back
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, sink, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, up), daemon=True).start()

    def _pump(self, source, sink, up):
        try:
            while data := source.recv(1 << 16):
                if up:
                    data = self._change(data)
                    self.sent += data
                else:
                    data = self._back(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self._listening.close()


@pytest.fixture
def wired(s3_bucket):
    """A store behind a Wire."""
    wires = []

    def make(**options):
        store_options = {"encryption": options.pop("encryption", None)}
        wire = Wire(s3_bucket.server.port, **options)
        wires.append(wire)
        opened(s3_bucket)
        client = s3_client.connect(wire.endpoint, s3_bucket.access_key, s3_bucket.secret_key, "us-east-1", 20.0)
        return S3Store(client, s3_bucket.name, **store_options), wire

    yield make
    for wire in wires:
        wire.close()


def test_a_byte_that_flips_on_its_way_to_the_server_is_refused_there(wired, s3_bucket):
    # The Host header is signed: it must be the one that the server was asked for, so the proxy only touches the body.
    store, _ = wired(change=lambda data: data.replace(b"the payload", b"tHe payload"))
    with pytest.raises(StoreError):
        store.put(RECORD, b"the payload" * 100)
    assert s3_bucket.objects() == {}


def test_a_byte_that_flips_on_its_way_back_is_read_once_more(wired):
    flips = [1]

    def flip_once(data):
        if b"payload" in data and flips:
            flips.pop()
            return data.replace(b"payload", b"paxload", 1)
        return data

    store, _ = wired(back=flip_once)
    sealed = SealedStore(store)
    sealed.put(RECORD, b"payload" * 10, "x")
    assert sealed.get(RECORD, "x") == b"payload" * 10
    assert sealed.corrupt_count == 1
    assert sealed.get(RECORD, "x") == b"payload" * 10
    assert sealed.corrupt_count == 1


def test_damage_in_the_bucket_is_told(s3_bucket):
    sealed = SealedStore(opened(s3_bucket))
    sealed.put(RECORD, b"payload", "x")
    blob = bytearray(s3_bucket.objects()[object_name(RECORD)])
    blob[-1] ^= 1
    s3_bucket.server.client().put_object(
        bucket_name=s3_bucket.name, object_name=object_name(RECORD), data=io.BytesIO(bytes(blob)), length=len(blob)
    )
    with pytest.raises(CorruptBlobError):
        sealed.get(RECORD, "x")
    assert sealed.get_whole(RECORD, "x") is None
    assert s3_bucket.objects() == {}


def test_the_checksum_and_the_wish_for_encryption_go_with_the_blob(wired):
    store, wire = wired(encryption=SseS3())
    # Swift knows no encryption and says so; what counts is that the wish is never dropped in silence.
    with pytest.raises(StoreError, match="NotImplemented"):
        store.put(RECORD, b"x")
    headers = wire.sent.lower()
    assert b"x-amz-server-side-encryption: aes256" in headers
    assert b"x-amz-checksum-sha256: " + base64.b64encode(hashlib.sha256(b"x").digest()).lower() in headers
    assert store.get(RECORD) is None


def test_a_server_without_lifecycles_is_used_all_the_same(s3_bucket):
    store = opened(s3_bucket)
    assert store.set_lifecycle(30.0) is False
    store.put(RECORD, b"x")


def test_lifecycle_rules_expire_derived_objects_alone_in_whole_days():
    tidy, derived = lifecycle_rules(1.2)
    assert derived.rule_filter.prefix == "derived/"
    assert derived.expiration.days == 2
    assert tidy.expiration is None
    assert tidy.abort_incomplete_multipart_upload.days_after_initiation == 1
    assert [r.rule_id for r in lifecycle_rules(0.0)] == [tidy.rule_id]


@pytest.mark.parametrize("wrong", [{"secret_key": "hush"}, {"access_key": "nobody"}])
def test_wrong_keys_are_said_so_without_keys_or_address(s3_bucket, wrong):
    with pytest.raises(StoreError, match="refused") as caught:
        opened(replace(s3_bucket, **wrong))
    for secret in ("hush", "nobody", "127.0.0.1", str(s3_bucket.server.port)):
        assert secret not in caught.value.message


def test_a_server_that_is_away_is_a_store_error_without_its_address():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(StoreError, match="HEADLIFT_S3_ENDPOINT") as caught:
        S3Store(s3_client.connect(f"http://127.0.0.1:{port}", "a", "b", "us-east-1", 1.0), "bucket")
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert str(port) not in caught.value.message


def test_missing_keys_and_wrong_endpoints_name_their_variables():
    with pytest.raises(InvalidInputError, match="HEADLIFT_S3_SECRET_KEY"):
        s3_client.connect("http://127.0.0.1:9", "a", "", "us-east-1", 1.0)
    with pytest.raises(InvalidInputError, match="HEADLIFT_S3_ENDPOINT"):
        s3_client.connect("http://host/with/path", "a", "b", "us-east-1", 1.0)


def test_a_missing_object_is_not_found_for_those_who_ask_by_name(s3_bucket):
    opened(s3_bucket)
    with pytest.raises(NotFoundError), s3_client.as_store_error():
        s3_bucket.server.client().stat_object(bucket_name=s3_bucket.name, object_name="none")
