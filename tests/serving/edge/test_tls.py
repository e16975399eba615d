import asyncio
import ssl

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from headlift.client import AsyncHeadliftClient, Credentials, RetryPolicy
from headlift.errors import InvalidInputError, ServerError
from headlift.serving.edge import watched_files
from headlift.serving.edge.tls import server_credentials

ASK = health_pb2.HealthCheckRequest()


@pytest.fixture
async def serve():
    """Starts a server with these credentials; its port."""
    servers = []

    async def start(credentials):
        server = grpc.aio.server()
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        await server.stop(0)


async def asked(port, ca, key=None, cert=None):
    """What a caller who trusts ``ca`` hears: the status code of a health check."""
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(ASK, timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


async def test_a_caller_who_trusts_the_signer_gets_through_and_no_other(serve, authority, stranger, tmp_path):
    port = await serve(server_credentials(*authority.issue("server").write(tmp_path, "server")))
    assert await asked(port, authority.own.cert_pem) == "OK"
    assert await asked(port, stranger.own.cert_pem) == "UNAVAILABLE"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await health_pb2_grpc.HealthStub(channel).Check(ASK, timeout=20)


async def test_only_callers_with_a_certificate_of_the_right_signer_get_in(serve, authority, stranger, tmp_path):
    pair = authority.issue("server").write(tmp_path, "server")
    port = await serve(server_credentials(*pair, authority.write(tmp_path)))
    trusted = authority.own.cert_pem
    good, foreign = authority.issue("caller"), stranger.issue("caller")
    expired, early = (
        authority.issue("caller", from_days=-9, to_days=-1),
        authority.issue("caller", from_days=1, to_days=2),
    )
    assert await asked(port, trusted, good.key_pem, good.cert_pem) == "OK"
    assert await asked(port, trusted) == "UNAVAILABLE"
    for bad in (foreign, expired, early):
        assert await asked(port, trusted, bad.key_pem, bad.cert_pem) == "UNAVAILABLE"


async def test_a_certificate_is_replaced_without_a_restart_once_the_pair_is_whole(
    serve, authority, tmp_path, monkeypatch
):
    monkeypatch.setattr(watched_files, "CHECK_EVERY_S", 0.0)
    first, second = authority.issue("first"), authority.issue("second")
    cert, key = first.write(tmp_path, "server")
    port = await serve(server_credentials(cert, key))

    async def shown():
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        return x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string()

    assert await shown() == "CN=first"
    cert.write_bytes(second.cert_pem)  # its key is not there yet
    assert await shown() == "CN=first"
    key.write_bytes(second.key_pem)
    assert await shown() == "CN=second"


def test_files_of_no_use_are_refused_by_name(authority, tmp_path):
    good = authority.issue("good")
    cert, key = good.write(tmp_path, "good")
    _, other = authority.issue("other").write(tmp_path, "other")
    expired = authority.issue("old", from_days=-9, to_days=-1).write(tmp_path, "old")
    early = authority.issue("new", from_days=1, to_days=2).write(tmp_path, "new")
    for files, reason in [
        ((cert, other), "TLS_PAIR"),
        ((cert, cert), "BAD_TLS_KEY"),
        ((key, key), "BAD_TLS_CERT"),
        (expired, "TLS_EXPIRED"),
        (early, "TLS_EXPIRED"),
        ((cert, tmp_path / "none"), "NO_FILE"),
        ((cert, key, key), "BAD_TLS_CERT"),
    ]:
        with pytest.raises(InvalidInputError) as caught:
            server_credentials(*files)
        assert caught.value.reason == reason


async def test_the_client_takes_its_certificates_from_files(serve, authority, stranger, tmp_path):
    ca = authority.write(tmp_path)
    port = await serve(server_credentials(*authority.issue("server").write(tmp_path, "server"), ca))
    cert, key = authority.issue("caller").write(tmp_path, "caller")
    address = f"127.0.0.1:{port}"
    async with AsyncHeadliftClient(address, credentials=Credentials(ca=ca, cert=cert, key=key)) as client:
        await client.wait_until_serving()
    doubtful = Credentials(ca=stranger.write(tmp_path, "stranger"), cert=cert, key=key)
    async with AsyncHeadliftClient(address, credentials=doubtful, retry=RetryPolicy(attempts_max=1)) as client:
        with pytest.raises(ServerError) as caught:
            await client.get_head("h0")
        assert caught.value.code == "UNAVAILABLE"
