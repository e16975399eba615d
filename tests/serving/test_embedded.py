import asyncio
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headlift.client import AsyncHeadliftClient, HeadliftClient, RetryPolicy
from headlift.errors import (
    BackendUnavailableError,
    CorruptWeightsError,
    MissingWeightsError,
    ServerError,
    StoreError,
)
from headlift.serving.background import BackgroundServer
from headlift.serving.embedded import EmbeddedServer


async def test_running_calls_are_finished_before_the_server_ends(settings, tmp_path, portrait_png):
    async with asyncio.timeout(60):
        server = EmbeddedServer(replace(settings, data_dir=tmp_path, drain_s=30.0))
        await server.__aenter__()
        async with AsyncHeadliftClient(server.address) as client:
            call = asyncio.create_task(client.create_head(portrait_png, refine_steps=20))
            while not server.service.pipeline.busy:
                await asyncio.sleep(0.01)
            await server.__aexit__(None, None, None)
            assert (await call).refine_steps == 20


async def test_health_follows_the_life_of_the_server(settings, tmp_path):
    server = EmbeddedServer(replace(settings, data_dir=tmp_path))
    await server.__aenter__()
    async with grpc.aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        ending = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await ending


async def test_services_hear_that_the_server_leaves_and_new_calls_are_turned_away(settings, tmp_path):
    server = EmbeddedServer(replace(settings, data_dir=tmp_path))
    await server.__aenter__()
    assert not server.draining.is_set()
    assert "headlift.v1.HeadService" in server.service_names
    waiting = asyncio.create_task(server.draining.wait())
    async with AsyncHeadliftClient(server.address, retry=RetryPolicy(attempts_max=1)) as client:
        await client.wait_until_serving()
        await server.__aexit__(None, None, None)
        assert await waiting
        with pytest.raises(ServerError) as caught:
            await client.get_head("h0")
        assert caught.value.code == "UNAVAILABLE"


async def test_a_silent_connection_is_told_to_move_on(settings, tmp_path):
    aged = replace(settings, data_dir=tmp_path, connection_age_s=0.5, connection_grace_s=5.0, connection_idle_s=60.0)
    async with EmbeddedServer(aged) as server, AsyncHeadliftClient(server.address) as client:
        for _ in range(4):  # longer than a connection lives; nobody notices
            assert [h async for h in client.list_heads()] == []
            await asyncio.sleep(0.3)


def test_a_taken_port_is_a_clear_error(server, settings):
    port = int(server.address.split(":")[1])
    with pytest.raises(StoreError, match=str(port)) as caught, BackgroundServer(replace(settings, port=port)):
        pass
    assert caught.value.reason == "PORT_TAKEN"


def test_weights_that_cannot_be_loaded_are_a_clear_error(settings, tmp_path):
    with pytest.raises(MissingWeightsError, match="nothing"):
        BackgroundServer(replace(settings, weights=tmp_path / "nothing.safetensors")).__enter__()
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(CorruptWeightsError, match="bad"):
        BackgroundServer(replace(settings, weights=tmp_path / "bad.safetensors")).__enter__()


@pytest.mark.parametrize("device", ["nonsense", "meta"])
def test_a_device_that_is_not_here_is_a_clear_error(settings, device):
    with pytest.raises(BackendUnavailableError, match=device):
        BackgroundServer(replace(settings, device=device)).__enter__()


def test_damaged_blobs_are_rebuilt_and_never_served(server, settings, portrait_png):
    with HeadliftClient(server.address, tenant="damage") as client:
        head = client.create_head(portrait_png)
        before, store = client.export(head, "wire"), server.service.store
        for key in list(store.list("tenants/damage")):
            if key.endswith("/record"):
                continue
            blob = bytearray(store.blobs.get(key))
            blob[-1] ^= 0xFF
            counted = store.corrupt_count
            store.blobs.put(key, bytes(blob))
            assert client.export(head, "wire") == before
            assert client.create_head(portrait_png).gaussian_count == head.gaussian_count
            assert store.corrupt_count <= counted + 1
