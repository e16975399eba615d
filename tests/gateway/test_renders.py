import asyncio
import contextlib

import pytest

from headlift.backend.protocol import RenderedImages
from headlift.backend.workers import Workers
from headlift.errors import NotFoundError, OverloadedError
from headlift.gateway.renders import RenderCache, pack_images, unpack_images
from headlift.media.pictures import RenderOptions
from headlift.model.cameras import orbit_camera
from headlift.store.heads import HeadName, HeadStore
from headlift.store.sealed import SealedStore
from headlift.v1 import head_pb2

NAME, FRONT, SIDE = HeadName("a", "h1"), orbit_camera(0.0), orbit_camera(40.0)


class Camera:
    """Takes pictures, slowly, and counts them."""

    def __init__(self, size=100, fault=None):
        self.count, self._size, self._fault = 0, size, fault

    async def __call__(self):
        self.count += 1
        await asyncio.sleep(0.05)
        if self._fault:
            raise self._fault
        return RenderedImages([bytes(self._size)], [head_pb2.StageTiming(stage="render", duration_ms=5.0)])


@pytest.fixture
def storing():
    workers = Workers("storing", 4, 1000)
    yield workers
    workers.close()


@pytest.fixture
def sealed(in_redis):
    store = SealedStore(in_redis)
    store.put(f"{NAME}/record", head_pb2.Head().SerializeToString(), "head")
    return store


@pytest.fixture
def cache(sealed, storing):
    return cache_of(sealed, storing)


def cache_of(sealed, storing, fingerprint="w", bytes_max=1000):
    heads = HeadStore(sealed, unpack=lambda _: None, memory_bytes=0)
    return RenderCache(sealed, heads, storing, fingerprint=lambda: fingerprint, bytes_max=bytes_max)


async def kept(cache):
    """Wait until what goes on in the background is done."""
    while cache._background:
        await asyncio.sleep(0.01)


async def test_a_hundred_equal_requests_take_one_picture_and_later_ones_none(cache):
    camera = Camera()
    shots = await asyncio.gather(*(cache.take(NAME, FRONT, RenderOptions(), camera) for _ in range(100)))
    assert camera.count == 1
    assert {s.pictures[0] for s in shots} == {bytes(100)}
    await kept(cache)
    again = await cache.take(NAME, FRONT, RenderOptions(), camera)
    assert camera.count == 1
    assert again.pictures == [bytes(100)]
    assert [(t.stage, t.cached, t.duration_ms) for t in again.timings] == [("render", True, 0.0)]


async def test_another_camera_look_head_or_network_is_another_picture(cache, sealed, storing):
    sealed.put("tenants/a/heads/h2/record", head_pb2.Head().SerializeToString(), "head")
    camera = Camera()
    await cache.take(NAME, FRONT, RenderOptions(), camera)
    await kept(cache)
    await cache.take(NAME, SIDE, RenderOptions(), camera)
    await cache.take(NAME, FRONT, RenderOptions(quality=91), camera)
    await cache.take(HeadName("a", "h2"), FRONT, RenderOptions(), camera)
    await cache_of(sealed, storing, fingerprint="v").take(NAME, FRONT, RenderOptions(), camera)
    assert camera.count == 5


async def test_what_is_too_large_is_not_kept(sealed, storing):
    cache, camera = cache_of(sealed, storing, bytes_max=50), Camera()
    for _ in range(2):
        await cache.take(NAME, FRONT, RenderOptions(), camera)
        await kept(cache)
    assert camera.count == 2
    assert list(sealed.list("tenants/a/renders")) == []


async def test_a_picture_that_was_taken_while_its_head_was_deleted_is_not_kept(cache, sealed):
    heads = HeadStore(sealed, unpack=lambda _: None, memory_bytes=0)

    async def render():
        heads.delete(NAME)
        return await Camera()()

    await cache.take(NAME, FRONT, RenderOptions(), render)
    await kept(cache)
    assert list(sealed.list("tenants")) == []


async def test_a_kept_picture_of_a_deleted_head_is_not_shown(cache, sealed):
    await cache.take(NAME, FRONT, RenderOptions(), Camera())
    await kept(cache)
    sealed.delete(f"{NAME}/record")  # as another tier would hear of it first
    with pytest.raises(NotFoundError):
        await cache.take(NAME, FRONT, RenderOptions(), Camera(fault=NotFoundError("gone")))


async def test_refusals_reach_everybody_and_are_not_kept(cache):
    camera = Camera(fault=OverloadedError("busy"))
    answers = await asyncio.gather(
        *(cache.take(NAME, FRONT, RenderOptions(), camera) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(a, OverloadedError) for a in answers)
    assert camera.count == 1
    assert (await cache.take(NAME, FRONT, RenderOptions(), Camera())).pictures


async def test_who_leaves_does_not_take_the_picture_away_from_others(cache):
    camera = Camera()
    first = asyncio.create_task(cache.take(NAME, FRONT, RenderOptions(), camera))
    second = asyncio.create_task(cache.take(NAME, FRONT, RenderOptions(), camera))
    await asyncio.sleep(0.02)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert (await second).pictures == [bytes(100)]
    assert camera.count == 1


def test_pictures_are_packed_and_unpacked():
    shots = RenderedImages([b"", b"abc"], [head_pb2.StageTiming(stage="render", duration_ms=3.0)])
    assert unpack_images(pack_images(shots)).pictures == [b"", b"abc"]
