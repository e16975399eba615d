import contextlib
import logging
import random
import re
import socket
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf import descriptor_pool
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import headlift
from headlift.client import Credentials, HeadliftClient, RetryPolicy
from headlift.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    UnauthenticatedError,
)
from headlift.serving.background import BackgroundServer
from headlift.serving.edge.compose import compose_edge, server_options
from headlift.serving.edge.keys import KeyFile
from headlift.serving.edge.quotas import CallCost
from headlift.settings import Settings
from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import head_service_pb2_grpc, live_pb2

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
ONCE = RetryPolicy(attempts_max=1)
DOCUMENTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("edge")


@pytest.fixture(scope="module")
def keys(folder):
    """Some callers' keys, by name."""
    file = KeyFile(folder / "keys.json")
    made = {
        "acme": file.create("acme", ["read", "write"])[0],
        "reader": file.create("acme", ["read"])[0],
        "other": file.create("other", ["read", "write"])[0],
        "admin": file.create("ops", ["admin"])[0],
        "poor": file.create("poor", ["read", "write"], limits={"heads": 1})[0],
        "slow": file.create("slow", ["read"], limits={"requests_per_s": 0.01})[0],
    }
    gone, entry = file.create("acme", ["admin"])
    file.revoke(entry.id)
    return made | {"revoked": gone, "expired": file.create("acme", ["admin"], expires_in_s=-1)[0]}


@pytest.fixture(scope="module")
def signing(folder):
    key = ed25519.Ed25519PrivateKey.generate()
    (folder / "jwt.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key


@pytest.fixture(scope="module")
def ca(authority, folder):
    return authority.write(folder)


@pytest.fixture(scope="module")
def secured(settings, folder, keys, signing, authority):
    """A server with everything on."""
    cert, key = authority.issue("server").write(folder, "server")
    chosen = replace(
        settings,
        data_dir=folder / "store",
        tls_cert=cert,
        tls_key=key,
        auth="both",
        keys_file=folder / "keys.json",
        jwt_keys=folder / "jwt.pem",
        jwt_issuer="https://id.example",
        jwt_audience="headlift",
    )
    with BackgroundServer(chosen) as server:
        yield server


@pytest.fixture(scope="module")
def channel(secured, authority):
    options = [("grpc.max_send_message_length", 80 << 20)]
    trusted = grpc.ssl_channel_credentials(authority.own.cert_pem)
    with grpc.secure_channel(secured.address, trusted, options) as opened:
        yield opened


@pytest.fixture
def client(secured, ca):
    """Makes a client with a key, for a tenant."""
    opened = []

    def connect(key, tenant="acme", **options):
        credentials = Credentials(ca=ca, **({"api_key": key} if isinstance(key, str) else {"token": key}))
        opened.append(HeadliftClient(secured.address, tenant=tenant, credentials=credentials, retry=ONCE, **options))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def bearer(key):
    return (("authorization", f"Bearer {key}"),)


def methods(channel, keys):
    """Every method that the server has, as it says itself, health left out."""
    calls = Reflecting(channel, keys["admin"])
    services = set(ProtoReflectionDescriptorDatabase(calls).get_services())
    assert {"headlift.v1.HeadService", "grpc.health.v1.Health", REFLECTION} <= services
    pool = descriptor_pool.Default()
    return [
        (f"/{name}/{m.name}", m.client_streaming, m.server_streaming)
        for name in sorted(services - {"grpc.health.v1.Health"})
        for m in pool.FindServiceByName(name).methods
    ]


class Reflecting(grpc.StreamStreamClientInterceptor):
    """A channel for reflection that shows a key."""

    def __new__(cls, channel, key):
        self = super().__new__(cls)
        self.key = key
        return grpc.intercept_channel(channel, self)

    def intercept_stream_stream(self, continuation, details, requests):
        shown = details._replace(metadata=bearer(self.key)) if hasattr(details, "_replace") else details
        return continuation(shown, requests)


def code_of(channel, method, raw, metadata=()):
    """What a raw message to any kind of method ends with."""
    path, requests, responses = method
    make = getattr(channel, f"{'stream' if requests else 'unary'}_{'stream' if responses else 'unary'}")
    try:
        answer = make(path)(iter([raw]) if requests else raw, metadata=metadata, timeout=60)
        if responses:
            list(answer)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_no_method_answers_without_a_credential(channel, keys):
    known = methods(channel, keys)
    assert len(known) >= 8
    wrong = ["", "hlk_x", "a.b.c", keys["acme"][:-1], keys["revoked"], keys["expired"]]
    for method in known:
        for metadata in ((), (("authorization", "Basic x"),), (("x-api-key", "y"),), *map(bearer, wrong)):
            assert code_of(channel, method, b"", metadata) == "UNAUTHENTICATED", (method, metadata)
        assert code_of(channel, method, b"", bearer(keys["admin"])) != "UNAUTHENTICATED"


def test_health_needs_no_credential(channel):
    for service in ("", "headlift.v1.HeadService"):
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_is_for_those_with_its_scope(channel, keys):
    with pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(Reflecting(channel, keys["acme"])).get_services()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_refusal_for_want_of_a_key_names_no_secret_and_says_how(client, keys, caplog):
    with caplog.at_level(logging.DEBUG):
        for key in ("", keys["revoked"], keys["acme"] + "x"):
            with pytest.raises(UnauthenticatedError) as caught:
                client(key).get_head("h0")
            assert key == "" or key not in str(caught.value)
        client(keys["acme"]).list_heads()
    assert caught.value.reason == "BAD_KEY"
    assert "hlk_" not in caplog.text
    with pytest.raises(UnauthenticatedError, match="Bearer"):
        client("").get_head("h0")


def test_heads_are_seen_by_their_own_tenant_alone(client, keys, portrait_png):
    owner, other = client(keys["acme"]), client(keys["other"], "other")
    head = owner.create_head(portrait_png)
    assert owner.get_head(head) == head
    refused = []
    for name in (head.name, "tenants/acme/heads/h0"):
        for ask in (other.get_head, other.delete_head, other.render, lambda n: other.export(n, "wire")):
            with pytest.raises(NotFoundError) as caught:
                ask(name)
            error = caught.value
            refused.append((error.message.replace(name, ""), error.reason, error.metadata["resource"] == name))
    # A head of somebody else is refused in the very words for one that does not exist.
    with pytest.raises(NotFoundError) as caught:
        other.get_head("tenants/other/heads/h0")
    own = (caught.value.message.replace("tenants/other/heads/h0", ""), caught.value.reason, True)
    assert set(refused) == {own}
    stranger = client(keys["other"])
    for ask in (lambda: list(stranger.list_heads()), lambda: stranger.create_head(portrait_png)):
        with pytest.raises(PermissionDeniedError, match="tenants/other"):
            ask()


def test_a_reader_may_look_and_nothing_else(client, keys, portrait_png):
    head = client(keys["acme"]).create_head(portrait_png)
    reader = client(keys["reader"])
    assert reader.get_head(head) == head
    for ask in (lambda: reader.create_head(portrait_png), lambda: reader.delete_head(head)):
        with pytest.raises(PermissionDeniedError, match="write"):
            ask()


def test_a_token_is_asked_for_before_every_call(client, signing):
    given = []

    def token():
        claims = {"iss": "https://id.example", "aud": "headlift", "sub": "ann", "tenant": "acme", "scope": "read"}
        given.append(jwt.encode(claims | {"exp": time.time() + 60}, signing, "EdDSA"))
        return given[-1]

    connected = client(token)
    list(connected.list_heads())
    list(connected.list_heads())
    assert len(given) == 2


def test_a_tenant_may_have_as_many_heads_as_its_quota(client, keys, portrait_png):
    poor = client(keys["poor"], "poor")
    head = poor.create_head(portrait_png)
    with pytest.raises(QuotaError) as caught:
        poor.create_head(portrait_png)
    assert (caught.value.code, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    poor.delete_head(head)
    poor.create_head(portrait_png)


def test_a_key_may_have_a_rate_of_its_own(client, keys):
    slow = client(keys["slow"], "slow")
    list(slow.list_heads())
    with pytest.raises(RateLimitError) as caught:
        list(slow.list_heads())
    assert 60 < caught.value.retry_after_s <= 100


def test_noise_gets_documented_answers_from_every_method(channel, keys):
    noise = random.Random(4)
    ours = [m for m in methods(channel, keys) if REFLECTION not in m[0]]
    codes = {}
    for i in range(20 * len(ours)):
        method, raw = ours[i % len(ours)], noise.randbytes(noise.randint(1, 200))
        codes.setdefault(code_of(channel, method, raw, bearer(keys["admin"])), []).append((method[0], raw))
    assert "INVALID_ARGUMENT" in codes
    assert set(codes) <= DOCUMENTED, {c: found[:2] for c, found in codes.items()}


def test_the_request_id_comes_back_and_is_made_where_there_is_none(channel, keys):
    stub = head_service_pb2_grpc.HeadServiceStub(channel)
    request = pb.ListHeadsRequest(parent="tenants/acme")
    _, call = stub.ListHeads.with_call(request, metadata=(*bearer(keys["acme"]), ("x-request-id", "mine-7")))
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-7"
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListHeads(request)
    assert len(dict(caught.value.trailing_metadata())["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"auth": "keys"}, "keys.json cannot be read"),
        ({"auth": "jwt"}, "HEADLIFT_JWT_KEYS"),
        ({"tls_cert": "missing.pem"}, "HEADLIFT_TLS_KEY"),
        ({"tls_cert": "missing.pem", "tls_key": "missing.key"}, "missing.pem cannot be read"),
        ({"redis_url": "nonsense"}, "HEADLIFT_REDIS_URL"),
    ],
)
def test_an_edge_that_cannot_hold_does_not_start(settings, tmp_path, changed, says):
    paths = {k: tmp_path / v if k.startswith("tls") else v for k, v in changed.items()}
    with pytest.raises(InvalidInputError, match=says):
        BackgroundServer(replace(settings, data_dir=tmp_path, **paths)).__enter__()


class RawConnection:
    """HTTP/2 by hand: pings whenever it likes, which gRPC's own clients do not."""

    def __init__(self, address):
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))

    def ping(self):
        """Whether the server answers; it answers or says GOAWAY, whose text is kept."""
        self._socket.sendall(bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"headlift")
        while header := self._file.read(9):
            payload = self._file.read(int.from_bytes(header[:3]))
            kind, flags = header[3], header[4]
            if kind == 7:
                self.goaway = payload[8:]
                return False
            if kind == 6 and flags & 1:
                return True
        return False

    def close(self):
        self._socket.close()


def test_pings_on_an_idle_connection_are_borne_down_to_the_interval_that_is_set(settings, tmp_path):
    patient = replace(settings, auth="none", data_dir=tmp_path, ping_interval_s_min=0.2, port=0)
    with BackgroundServer(patient) as server, contextlib.closing(RawConnection(server.address)) as calm:
        for _ in range(6):
            assert calm.ping()
            time.sleep(0.3)
    strict = replace(patient, ping_interval_s_min=5.0)
    with BackgroundServer(strict) as server, contextlib.closing(RawConnection(server.address)) as hasty:
        assert not all(hasty.ping() for _ in range(6))
        assert hasty.goaway == b"too_many_pings"


def test_every_option_that_grpc_is_given_is_one_that_it_knows():
    known = Path(cygrpc.__file__).read_bytes()  # others it passes over without a word
    given = {name for name, _ in server_options(Settings(connection_idle_s=1, connection_age_s=1))}
    for source in Path(headlift.__file__).parent.rglob("*.py"):
        given |= set(re.findall(r'\("(grpc\.[a-z0-9_.]+)",', source.read_text()))
    assert "grpc.max_receive_message_length" in given
    assert [name for name in sorted(given) if name.encode() + b"\0" not in known] == []


async def test_limits_are_counted_in_redis_where_there_is_one(redis_server):
    one, two = (
        compose_edge(Settings(redis_url=redis_server.url, redis_timeout_ms=2000, limit_creates_per_min=1))
        for _ in range(2)
    )
    async with AsyncExitStack() as stack:
        await one.quotas.admit(None, "acme", CallCost.of(pb.CreateHeadRequest(), 1), stack)
        with pytest.raises(RateLimitError):
            await two.quotas.admit(None, "acme", CallCost.of(live_pb2.LiveRequest(open={"portrait": b"x"}), 1), stack)
        await two.quotas.admit(None, "acme", CallCost.of(live_pb2.LiveRequest(open={"head": "h"}), 1), stack)
    await one.quotas.close()
    await two.quotas.close()
    assert redis_server.held() == ["headlift:limits:{acme}:creates"]


def test_a_secret_does_not_leave_the_machine_in_the_clear():
    for address in ("heads.example:443", "localhost.example:443", "10.0.0.1:50051"):
        with pytest.raises(InvalidInputError, match="unencrypted"):
            HeadliftClient(address, credentials=Credentials(api_key="hlk_x"))
    HeadliftClient("heads.example:443", credentials=Credentials(api_key="hlk_x", tls=True)).close()
    HeadliftClient("heads.example:443", credentials=Credentials(api_key="hlk_x", allow_plaintext=True)).close()
    assert "hlk_x" not in repr(Credentials(api_key="hlk_x"))
    with pytest.raises(InvalidInputError):
        Credentials(cert="cert.pem")
