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

from headlift.errors import HeadliftError, StoreError
from headlift.gateway.idempotency import SharedWork
from headlift.gateway.pipeline import Shots
from headlift.gateway.workers import Workers
from headlift.model.types import Cameras
from headlift.render.pictures import Look
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
        """``fingerprint`` names, as things stand, what pictures depend on besides head, cameras and look.

        Larger answers than ``bytes_max`` are not kept, and none while ``keeps`` says no.
        """
        self._hot, self._heads, self._storing = hot, heads, storing
        self._fingerprint, self._bytes_max, self._leases, self._keeps = fingerprint, bytes_max, leases, keeps
        self._shared: SharedWork[Shots] = SharedWork()
        self._background: set[asyncio.Task[None]] = set()

    async def take(self, name: HeadName, cameras: Cameras, look: Look, render: Callable[[], Awaitable[Shots]]) -> Shots:
        """The pictures, from the cache or from ``render``, which must fail where there is no such head."""
        path = f"{renders_prefix(name)}/{self._digest(cameras, look)}"
        return await self._shared.run((path, ""), "", lambda: self._once(name, path, render))

    async def _once(self, name: HeadName, path: str, render: Callable[[], Awaitable[Shots]]) -> Shots:
        waiter = LeaseWaiter(self._leases, path)
        shots: Shots | None = None
        try:
            while (shots := await self._recall(name, path)) is None:
                if await self._storing.run(lambda _: waiter.should_compute()):
                    break
                await asyncio.sleep(POLL_S)
            if shots is not None:
                return shots
            shots = await render()
            return shots
        finally:
            # Nobody waits for the keeping; the lease ends after it, so that whoever waits for that finds the pictures.
            self._after(self._finish(name, path, shots, waiter))

    async def _recall(self, name: HeadName, path: str) -> Shots | None:
        return await self._storing.run(lambda _: self._read(name, path))

    def _read(self, name: HeadName, path: str) -> Shots | None:
        try:
            data = self._hot.get_whole(path, _CODEC)
            # The hot tier may not have heard yet that the head was deleted.
            return unpack_shots(data) if data is not None and self._heads.exists(name) else None
        except StoreError:
            return None

    async def _finish(self, name: HeadName, path: str, shots: Shots | None, waiter: LeaseWaiter) -> None:
        if shots is not None and not all(t.cached for t in shots.timings):
            await self._storing.run(lambda _: self._keep(name, path, shots))
        await self._storing.run(lambda _: waiter.release())

    def _keep(self, name: HeadName, path: str, shots: Shots) -> None:
        if sum(map(len, shots.pictures)) > self._bytes_max or not self._keeps():
            return
        try:
            self._hot.put(path, pack_shots(shots), _CODEC)
            # Asked after the put: a deletion that did not see these pictures has already removed the record.
            if not self._heads.exists(name):
                self._hot.delete_all(renders_prefix(name))
        except StoreError as error:
            _log.info("pictures are not kept: %s", error.message)

    def _after(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _digest(self, cameras: Cameras, look: Look) -> str:
        text = json.dumps([self._fingerprint(), asdict(look), cameras.width, cameras.height], sort_keys=True)
        digest = hashlib.sha256(text.encode())
        for tensor in (cameras.viewmats, cameras.Ks):
            digest.update(tensor.detach().double().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def pack_shots(shots: Shots) -> bytes:
    """Pictures as bytes."""
    pictures = [picture_pb2.Picture(data=data) for data in shots.pictures]
    return pb.RenderHeadResponse(pictures=pictures, stage_timings=shots.timings).SerializeToString()


def unpack_shots(data: bytes) -> Shots:
    """Inverse of ``pack_shots``; every stage cost nothing this time."""
    message = pb.RenderHeadResponse.FromString(data)
    for timing in message.stage_timings:
        timing.duration_ms, timing.cached = 0.0, True
    return Shots([p.data for p in message.pictures], list(message.stage_timings))


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except HeadliftError as error:  # a server that shuts down, or is busy: there are just no pictures kept
        _log.info("pictures are not kept: %s", error.message)
