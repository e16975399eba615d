"""Pictures of a head that were taken before: kept in the hot tier alone, since taking one again costs little.

Equal requests that come at the same time take one picture.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headlift.backend.protocol import RenderedImages
from headlift.backend.workers import Workers
from headlift.errors import HeadliftError, StoreError
from headlift.gateway.idempotency import SharedWork
from headlift.media.pictures import RenderOptions
from headlift.model.types import Cameras
from headlift.store.heads import HeadName, HeadStore, renders_prefix
from headlift.store.sealed import SealedStore
from headlift.store.single_flight import POLL_S, LeaseWaiter
from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import picture_pb2

if TYPE_CHECKING:  # Redis's driver is imported where it is used
    from headlift.store.leases import Leases

_log = logging.getLogger(__name__)
_CODEC = "pictures"


class RenderCache:
    """Remembers what RenderHead answered."""

    def __init__(
        self,
        hot: SealedStore,
        heads: HeadStore,
        storing: Workers,
        *,
        fingerprint: Callable[[], str],
        bytes_max: int,
        leases: Leases | None = None,
        keeps: Callable[[], bool] = lambda: True,
    ) -> None:
        """``fingerprint`` names, as things stand, what pictures depend on besides head, cameras and options.

        Larger answers than ``bytes_max`` are not kept, and none while ``keeps`` says no.
        """
        self._hot, self._heads, self._storing = hot, heads, storing
        self._fingerprint, self._bytes_max, self._leases, self._keeps = fingerprint, bytes_max, leases, keeps
        self._shared: SharedWork[RenderedImages] = SharedWork()
        self._background: set[asyncio.Task[None]] = set()

    async def take(
        self,
        name: HeadName,
        cameras: Cameras,
        options: RenderOptions,
        render: Callable[[], Awaitable[RenderedImages]],
    ) -> RenderedImages:
        """The pictures, from the cache or from ``render``, which must fail where there is no such head."""
        path = f"{renders_prefix(name)}/{self._digest(cameras, options)}"
        return await self._shared.run((path, ""), "", lambda: self._once(name, path, render))

    async def _once(self, name: HeadName, path: str, render: Callable[[], Awaitable[RenderedImages]]) -> RenderedImages:
        waiter = LeaseWaiter(self._leases, path)
        images: RenderedImages | None = None
        try:
            while (images := await self._recall(name, path)) is None:
                if await self._storing.run(lambda _: waiter.should_compute()):
                    break
                await asyncio.sleep(POLL_S)
            if images is not None:
                return images
            images = await render()
            return images
        finally:
            # Nobody waits for the keeping; the lease ends after it, so that whoever waits for that finds the pictures.
            self._after(self._finish(name, path, images, waiter))

    async def _recall(self, name: HeadName, path: str) -> RenderedImages | None:
        return await self._storing.run(lambda _: self._read(name, path))

    def _read(self, name: HeadName, path: str) -> RenderedImages | None:
        try:
            data = self._hot.get_whole(path, _CODEC)
            # The hot tier may not have heard yet that the head was deleted.
            return unpack_images(data) if data is not None and self._heads.exists(name) else None
        except StoreError:
            return None

    async def _finish(self, name: HeadName, path: str, images: RenderedImages | None, waiter: LeaseWaiter) -> None:
        if images is not None and not all(t.cached for t in images.timings):
            await self._storing.run(lambda _: self._keep(name, path, images))
        await self._storing.run(lambda _: waiter.release())

    def _keep(self, name: HeadName, path: str, images: RenderedImages) -> None:
        if sum(map(len, images.pictures)) > self._bytes_max or not self._keeps():
            return
        try:
            self._hot.put(path, pack_images(images), _CODEC)
            # Asked after the put: a deletion that did not see these pictures has already removed the record.
            if not self._heads.exists(name):
                self._hot.delete_all(renders_prefix(name))
        except StoreError as error:
            _log.info("pictures are not kept: %s", error.message)

    def _after(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _digest(self, cameras: Cameras, options: RenderOptions) -> str:
        text = json.dumps([self._fingerprint(), asdict(options), cameras.width, cameras.height], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        for tensor in (cameras.viewmats, cameras.Ks):
            digest.update(tensor.detach().double().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def pack_images(images: RenderedImages) -> bytes:
    """Pictures as bytes."""
    pictures = [picture_pb2.Picture(data=data) for data in images.pictures]
    return pb.RenderHeadResponse(pictures=pictures, stage_timings=images.timings).SerializeToString()


def unpack_images(data: bytes) -> RenderedImages:
    """Inverse of ``pack_images``; every stage cost nothing this time."""
    message = pb.RenderHeadResponse.FromString(data)
    for timing in message.stage_timings:
        timing.duration_ms, timing.cached = 0.0, True
    return RenderedImages([p.data for p in message.pictures], list(message.stage_timings))


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except HeadliftError as error:  # a server that shuts down, or is busy: there are just no pictures kept
        _log.info("pictures are not kept: %s", error.message)
