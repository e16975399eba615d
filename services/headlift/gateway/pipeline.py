"""The way of a portrait, stage by stage: what HeadService needs done, and its doing.

The stages are a ``Backend``'s, here or elsewhere. Admission, caches, single flight and what a record says are the same
for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from headlift.backend.protocol import Backend, HeadRef, Network, RenderedImages
from headlift.backend.workers import Workers
from headlift.gateway.portraits import PortraitCache
from headlift.gateway.validation import Creation
from headlift.media.pictures import RenderOptions
from headlift.model.types import Cameras
from headlift.stages.clock import Stopwatch, count_stages
from headlift.stages.stop_token import StopToken
from headlift.store.heads import GAUSSIANS_CODEC
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import head_pb2


@dataclass(frozen=True)
class Reconstruction:
    """A new head, not stored yet."""

    head: head_pb2.Head  # all but name, create_time and size_bytes
    gaussians: bytes  # wire codec; empty where only the portrait was preprocessed
    copy: StageKey | None = None  # where the stage cache keeps the same bytes
    portrait: StageKey | None = None  # where it keeps the portrait
    parts: Mapping[str, bytes] = field(default_factory=dict)  # what else is stored with the head, by name


class Pipeline(Protocol):
    """What computes; refuses work with OverloadedError, and stops when the awaiting task is cancelled."""

    async def inspect(self, creation: Creation) -> Reconstruction:
        """Preprocess a portrait: the head that comes back has a quality record and nothing else."""
        ...

    async def reconstruct(self, creation: Creation) -> Reconstruction:
        """Make a head of a portrait."""
        ...

    async def render(self, head: HeadRef, cameras: Cameras, options: RenderOptions) -> RenderedImages:
        """Take one packed picture per camera. Raises what reading the head raises."""
        ...


class StagedPipeline:
    """Runs stages on two pools of threads: making a head never delays pictures of others."""

    def __init__(
        self,
        backend: Backend,
        portraits: PortraitCache,
        cache: StageCache,
        creating: Workers,
        rendering: Workers,
        storing: Workers,
    ) -> None:
        """``storing`` are the threads that wait for the store; the pipeline does not close them."""
        self._backend = backend
        self._portraits = portraits
        self._cache = cache
        self._creating = creating
        self._rendering = rendering
        self._storing = storing

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self._creating.admitted + self._rendering.admitted > 0

    async def inspect(self, creation: Creation) -> Reconstruction:
        """See Pipeline."""
        return await self._creating.run(lambda token: self._inspect(creation, token))

    async def reconstruct(self, creation: Creation) -> Reconstruction:
        """See Pipeline."""
        return await self._creating.run(lambda token: self._reconstruct(creation, token))

    async def render(self, head: HeadRef, cameras: Cameras, options: RenderOptions) -> RenderedImages:
        """See Pipeline."""
        await self._storing.run(lambda _: self._backend.fetch(head))
        images = await self._rendering.run(lambda token: self._backend.render(head, cameras, options, token))
        count_stages(images.timings)
        return images

    def close(self) -> None:
        """Wait for running work and take no more."""
        self._creating.close()
        self._rendering.close()

    def _inspect(self, creation: Creation, token: StopToken) -> Reconstruction:
        watch = Stopwatch()
        preprocessed = self._portraits.preprocess(creation, watch, token, keep=False)
        count_stages(watch.timings)
        head = head_pb2.Head(
            input_sha256=creation.input_sha256, quality=preprocessed.quality, stage_timings=watch.timings
        )
        return Reconstruction(head, b"")

    def _reconstruct(self, creation: Creation, token: StopToken) -> Reconstruction:
        if not creation.keep:
            return Reconstruction(*self._compute(creation, token))
        network = self._backend.network()
        record, copy = _key(creation, "head", network), _key(creation, "gaussians", network)
        result = self._cache.once(
            record,
            lambda: self._remembered(record, copy),
            lambda: self._make(creation, token, record, copy),
            token.check,
        )
        return replace(result, portrait=self._portraits.key(creation))

    def _remembered(self, record_key: StageKey, copy: StageKey) -> Reconstruction | None:
        record, gaussians = self._cache.get(record_key, "head"), self._cache.get(copy, GAUSSIANS_CODEC)
        if record is None or gaussians is None:
            return None
        return Reconstruction(from_cache(head_pb2.Head.FromString(record)), gaussians, copy)

    def _make(self, creation: Creation, token: StopToken, record: StageKey, copy: StageKey) -> Reconstruction:
        try:
            head, packed = self._compute(creation, token)
        except Exception:
            # No head will ever name this portrait, so nothing of it may stay behind.
            self._cache.forget(creation.tenant, creation.input_sha256)
            raise
        if head.weights_hash != record.weights_hash:  # new weights came meanwhile: these are other keys' values
            return Reconstruction(head, packed)
        self._cache.put(record, head.SerializeToString(), "head", creation.durability)
        self._cache.put(copy, packed, GAUSSIANS_CODEC, creation.durability)
        return Reconstruction(head, packed, copy)

    def _compute(self, creation: Creation, token: StopToken) -> tuple[head_pb2.Head, bytes]:
        watch = Stopwatch()
        preprocessed = self._portraits.preprocess(creation, watch, token, keep=creation.keep)
        token.check()
        result = self._backend.reconstruct(preprocessed.portrait, creation.options.refine_steps, token)
        watch.add_all(result.stage_timings)
        count_stages(watch.timings)
        head = head_pb2.Head(
            input_sha256=creation.input_sha256,
            weights_hash=result.weights_hash,
            config_name=result.config_name,
            gaussian_count=result.gaussian_count,
            refine_steps=result.refine_steps,
            quality=preprocessed.quality,
            input_camera=result.input_camera if result.HasField("input_camera") else None,
            bounding_box=result.bounding_box,
            stage_timings=watch.timings,
        )
        return head, result.gaussians


def _key(creation: Creation, stage: str, network: Network) -> StageKey:
    options = {
        "several_faces": creation.options.several_faces,
        "face_index": creation.options.face_index,
        "refine_steps": creation.options.refine_steps,
        "refine": network.fingerprint,
        "portrait": network.portraits,
    }
    return StageKey(creation.tenant, creation.input_sha256, stage, options, network.weights_hash)


def from_cache(head: head_pb2.Head) -> head_pb2.Head:
    """The record of a head that was computed before: every stage cost nothing this time."""
    for timing in head.stage_timings:
        timing.duration_ms, timing.cached = 0.0, True
    count_stages(head.stage_timings)
    return head
