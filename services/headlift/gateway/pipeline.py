"""The way of a portrait, stage by stage: what HeadService needs done, and its doing in one process.

Everything that crosses ``Pipeline`` is bytes, messages or plain tensors, so that another runtime can put a network
between the stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from headlift.codec import bounding_box, message_from_camera
from headlift.decode.stage import Decode
from headlift.encode.stage import Encode
from headlift.gateway.context import StopToken
from headlift.gateway.portraits import PortraitCache
from headlift.gateway.validation import Creation
from headlift.gateway.workers import Workers
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.refine import Neighborhood, Refine, RefineSettings
from headlift.render.pictures import Look, pack
from headlift.render.stage import Render
from headlift.sharpen.stage import Sharpen
from headlift.store.heads import GAUSSIANS_CODEC
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import head_pb2

T = TypeVar("T")


@dataclass(frozen=True)
class Reconstruction:
    """A new head, not stored yet."""

    head: head_pb2.Head  # all but name, create_time and size_bytes
    gaussians: bytes  # wire codec; empty where nothing but the portrait was looked at
    copy: StageKey | None = None  # where the stage cache keeps the same bytes


@dataclass(frozen=True)
class Shots:
    """Pictures of a head."""

    pictures: list[bytes]
    timings: list[head_pb2.StageTiming]


class Pipeline(Protocol):
    """What computes; refuses work with OverloadedError, and stops when the awaiting task is cancelled."""

    async def inspect(self, creation: Creation) -> Reconstruction:
        """Look at a portrait: the head that comes back has a quality record and nothing else."""
        ...

    async def reconstruct(self, creation: Creation) -> Reconstruction:
        """Make a head of a portrait."""
        ...

    async def render(self, head: Gaussians, cameras: Cameras, look: Look) -> Shots:
        """Take one packed picture per camera."""
        ...


@dataclass(frozen=True)
class Stages:
    """The stages of one network, and what is known about it."""

    portraits: PortraitCache  # preprocessing, remembered
    encode: Encode
    decode: Decode
    refine: RefineSettings  # its steps are the request's
    topology: Neighborhood
    render: Render
    sharpen: Sharpen
    pack_head: Callable[[Gaussians], bytes]  # into the wire codec
    weights_hash: str
    config_name: str


class LocalPipeline:
    """All stages in this process, on two pools of threads: making a head never delays pictures of others."""

    def __init__(self, stages: Stages, cache: StageCache, creating: Workers, rendering: Workers) -> None:
        self._stages = stages
        self._cache = cache
        self._creating = creating
        self._rendering = rendering

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self._creating.admitted + self._rendering.admitted > 0

    async def inspect(self, creation: Creation) -> Reconstruction:
        """See Pipeline."""
        return await self._creating.run(lambda _: self._inspect(creation))

    async def reconstruct(self, creation: Creation) -> Reconstruction:
        """See Pipeline."""
        return await self._creating.run(lambda token: self._reconstruct(creation, token))

    async def render(self, head: Gaussians, cameras: Cameras, look: Look) -> Shots:
        """See Pipeline."""
        return await self._rendering.run(lambda token: self._render(head, cameras, look, token))

    def close(self) -> None:
        """Wait for running work and take no more."""
        self._creating.close()
        self._rendering.close()

    def _inspect(self, creation: Creation) -> Reconstruction:
        watch = Stopwatch()
        seen = self._stages.portraits.look(creation, watch, keep=False)
        head = head_pb2.Head(input_sha256=creation.input_sha256, quality=seen.quality, stage_timings=watch.timings)
        return Reconstruction(head, b"")

    def _reconstruct(self, creation: Creation, token: StopToken) -> Reconstruction:
        record_key, copy = self._key(creation, "head"), self._key(creation, "gaussians")
        record, gaussians = self._cache.get(record_key, "head"), self._cache.get(copy, GAUSSIANS_CODEC)
        if record is not None and gaussians is not None:
            return Reconstruction(_from_cache(head_pb2.Head.FromString(record)), gaussians, copy)
        try:
            head, packed = self._compute(creation, token)
        except Exception:
            # No head will ever name this portrait, so nothing of it may stay behind.
            self._cache.forget(creation.tenant, creation.input_sha256)
            raise
        self._cache.put(record_key, head.SerializeToString(), "head")
        self._cache.put(copy, packed, GAUSSIANS_CODEC)
        return Reconstruction(head, packed, copy)

    def _compute(self, creation: Creation, token: StopToken) -> tuple[head_pb2.Head, bytes]:
        stages, watch = self._stages, Stopwatch()
        seen = stages.portraits.look(creation, watch)
        token.check()
        with watch.timing("encode"):
            tokens = stages.encode(seen.portrait)
        token.check()
        with watch.timing("decode"):
            gaussians = stages.decode(tokens)
        token.check()
        camera = seen.portrait.camera or tokens.camera
        if camera is not None:
            camera = camera.resized(seen.portrait.size, seen.portrait.size)
        steps = creation.options.refine_steps if camera is not None else 0
        if steps and camera is not None:
            with watch.timing("refine"):
                gaussians, camera = self._refine(gaussians, seen.portrait, camera, steps, token)
        with watch.timing("pack"):
            packed = stages.pack_head(gaussians)
        head = head_pb2.Head(
            input_sha256=creation.input_sha256,
            weights_hash=stages.weights_hash,
            config_name=stages.config_name,
            gaussian_count=len(gaussians),
            refine_steps=steps,
            quality=seen.quality,
            input_camera=message_from_camera(camera) if camera is not None else None,
            bounding_box=bounding_box(gaussians),
            stage_timings=watch.timings,
        )
        return head, packed

    def _refine(
        self, gaussians: Gaussians, portrait: Portrait, camera: Cameras, steps: int, token: StopToken
    ) -> tuple[Gaussians, Cameras]:
        refine = Refine(replace(self._stages.refine, steps=steps))
        result = refine(gaussians, portrait, camera, topology=self._stages.topology, progress=lambda *_: token.check())
        return result.gaussians, result.camera

    def _render(self, head: Gaussians, cameras: Cameras, look: Look, token: StopToken) -> Shots:
        stages, watch = self._stages, Stopwatch()
        sharpen = stages.sharpen.available if look.sharpen is None else look.sharpen
        pictures = []
        # One camera at a time bounds memory at 64 cameras of 2048 pixels, and lets a cancelled call end soon.
        for i in range(len(cameras)):
            token.check()
            with watch.timing("render"):
                views = stages.render(head, cameras[i])
            rgb = views.rgb
            if sharpen:
                with watch.timing("sharpen"):
                    rgb = stages.sharpen(rgb)
            with watch.timing("pack"):
                pictures.append(pack(rgb[0], views.alpha[0], look))
        return Shots(pictures, watch.timings)

    def _key(self, creation: Creation, stage: str) -> StageKey:
        options = {
            "several_faces": creation.options.several_faces,
            "face_index": creation.options.face_index,
            "refine_steps": creation.options.refine_steps,
            "refine": repr(self._stages.refine),
            "portrait": self._stages.portraits.fingerprint,
        }
        return StageKey(creation.tenant, creation.input_sha256, stage, options, self._stages.weights_hash)


@dataclass
class Stopwatch:
    """Wall time per stage, in order of first use."""

    spent_ms: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time inside the block to ``stage``."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + (time.perf_counter() - begin) * 1e3

    @property
    def timings(self) -> list[head_pb2.StageTiming]:
        """As messages."""
        return [
            head_pb2.StageTiming(stage=s, duration_ms=ms, cached=s in self.cached) for s, ms in self.spent_ms.items()
        ]


def _from_cache(head: head_pb2.Head) -> head_pb2.Head:
    """The record of a head that was computed before: every stage cost nothing this time."""
    for timing in head.stage_timings:
        timing.duration_ms, timing.cached = 0.0, True
    return head
