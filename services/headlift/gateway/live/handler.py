"""Handles one input, a frame or a viewpoint: reconstruct, render, pack."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from headlift import codec, formats
from headlift.backend.protocol import HeadRef, RenderedImages
from headlift.backend.workers import Workers
from headlift.errors import HeadliftError
from headlift.gateway.live.latest_slot import PendingInput
from headlift.gateway.live.options import SessionPlan
from headlift.gateway.live.packing import HeadPacker, PackedHead, PackedView, TooLargeError, view_packer
from headlift.gateway.pipeline import Pipeline
from headlift.gateway.validation import CreateOptions, Creation
from headlift.model.types import Cameras
from headlift.stages.clock import Stopwatch
from headlift.store.heads import HeadName, HeadStore
from headlift.v1 import camera_pb2, head_pb2
from headlift.v1 import live_pb2 as pb

_RECHECK_S = 2.0  # how long a deleted head may still be rendered
_FRONT = camera_pb2.Camera()  # the contract's default


class NoHeadError(HeadliftError):
    """No frame has brought a head yet; never leaves this package."""


class HeadGoneError(Exception):
    """The head was deleted; ``error`` ends the session."""

    def __init__(self, error: HeadliftError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Answer:
    """The answer to an input, before it is packed."""

    sequence: int
    timestamp_us: int
    images: RenderedImages | None  # of the view, if there is one
    head: bool  # whether the head is part of the answer
    timings: list[head_pb2.StageTiming] = field(default_factory=list)


class InputHandler:
    """One session's head, camera and encoders; for one task."""

    def __init__(self, plan: SessionPlan, pipeline: Pipeline, heads: HeadStore, storing: Workers) -> None:
        self._plan, self._pipeline, self._heads, self._storing = plan, pipeline, heads, storing
        self._view_packer, self._head_packer = view_packer(plan), HeadPacker()
        self._name: HeadName | None = None
        # One object for as long as the head stays: renderers cache what they unpacked under its key.
        self._head: HeadRef | None = None
        self._near: tuple[float, ...] | None = None  # where the last frame showed the head
        self._head_sequence = 0
        self._cameras = self._parse_camera(_FRONT)
        self._viewed: PendingInput | None = None  # what the last view answered
        self._checked = time.monotonic()
        self._view_count = 0

    async def load(self, name: HeadName) -> head_pb2.Head:
        """Use a stored head; its record. NotFoundError: there is none."""
        record = await self._storing.run(lambda _: self._heads.get(name))
        self._head = HeadRef.stored(self._heads, name)
        self._name = name
        return record

    async def handle(self, pending: PendingInput, with_head: bool) -> Answer:
        """Compute the answer to ``pending``; may be cancelled at any time. ``with_head``: even a head that is not new.

        Raises:
            NoHeadError: A viewpoint came before the first frame; later frames are rendered from it.
            HeadGoneError: The head was deleted meanwhile.
            HeadliftError: What the pipeline refuses.
        """
        timings = [head_pb2.StageTiming(stage="wait", duration_ms=pending.age_s * 1e3)]
        await self._check_head()
        if pending.kind == "frame":
            timings += await self._reconstruct(pending)
        else:
            self._cameras = self._parse_camera(pending.camera or _FRONT)
        if self._head is None:
            raise NoHeadError("There is no head yet.")
        images = await self._render() if self._plan.views else None
        head = self._plan.heads and (with_head or pending.kind == "frame")
        return Answer(pending.sequence, pending.timestamp_us, images, head, timings)

    async def repeat(self) -> Answer | None:
        """The latest view and head, for a caller who lost them; None where nothing was answered yet."""
        await self._check_head()
        if self._head is None or not (self._plan.heads or self._viewed):
            return None
        viewed = self._viewed
        images = await self._render() if self._plan.views and viewed else None
        sequence, timestamp_us = (viewed.sequence, viewed.timestamp_us) if viewed else (self._head_sequence, 0)
        return Answer(sequence, timestamp_us, images, self._plan.heads)

    async def pack(self, answer: Answer, pending: PendingInput | None, keyframe: bool) -> list[pb.LiveResponse]:
        """The messages of an answer. Not to be cancelled unless the session ends: encoders remember what they packed.

        Raises:
            TooLargeError: The view does not fit, and there is nothing else to send.
        """
        self._viewed = pending if pending is not None and self._plan.views else self._viewed
        messages: list[pb.LiveResponse] = []
        if answer.images is not None:
            watch = Stopwatch()
            try:
                with watch.timing("pack"):
                    packed = await self._pack_view(answer.images.pictures[0], keyframe)
                messages.append(self._view_message(answer, packed, [*answer.images.timings, *watch.timings]))
            except TooLargeError:
                if not answer.head:
                    raise
        head = self._head
        if answer.head and head is not None:
            if pending is not None and pending.kind == "frame":
                self._head_sequence = pending.sequence
            sequence, watch = self._head_sequence, Stopwatch()
            with watch.timing("pack"):
                packed_head = await self._storing.run(lambda _: self._head_packer.pack(sequence, head, keyframe))
            messages.append(_head_message(answer, sequence, packed_head, watch.timings))
        return messages

    async def _check_head(self) -> None:
        name = self._name
        if name is None or time.monotonic() - self._checked < _RECHECK_S:
            return
        try:
            if not await self._storing.run(lambda _: self._heads.exists(name)):
                await self._storing.run(lambda _: self._heads.get(name))  # raises as for every other caller
        except HeadliftError as error:
            if error.code == "NOT_FOUND":
                raise HeadGoneError(error) from None
            raise
        self._checked = time.monotonic()

    async def _reconstruct(self, pending: PendingInput) -> Iterable[head_pb2.StageTiming]:
        creation = await self._storing.run(lambda _: _creation(self._plan, pending.picture))
        made = await self._pipeline.reconstruct(replace(creation, near=self._near))
        self._near = _crop_of(made.head.quality)
        data = made.gaussians
        self._head = HeadRef(f"live/{uuid.uuid4().hex}", lambda: formats.read(data, "wire"), lambda: data)
        return made.head.stage_timings

    def _parse_camera(self, camera: camera_pb2.Camera) -> Cameras:
        return codec.cameras_from_messages([camera], self._plan.render_options.width, self._plan.render_options.height)

    async def _render(self) -> RenderedImages:
        assert self._head is not None
        return await self._pipeline.render(self._head, self._cameras, self._plan.render_options)

    async def _pack_view(self, picture: bytes, keyframe: bool) -> PackedView:
        if not self._view_packer.blocks:
            return self._view_packer.pack(picture, keyframe)
        return await self._storing.run(lambda _: self._view_packer.pack(picture, keyframe))

    def _view_message(
        self, answer: Answer, packed: PackedView, timings: Sequence[head_pb2.StageTiming]
    ) -> pb.LiveResponse:
        view = pb.LiveView(
            sequence=answer.sequence,
            frame_index=self._view_count,
            data=packed.data,
            is_keyframe=packed.is_keyframe,
            quality=packed.quality,
            timestamp_us=answer.timestamp_us,
            stage_timings=[*answer.timings, *timings],
        )
        self._view_count += 1
        return pb.LiveResponse(view=view)


def _head_message(
    answer: Answer, sequence: int, packed: PackedHead, timings: Sequence[head_pb2.StageTiming]
) -> pb.LiveResponse:
    all_timings = [*answer.timings, *timings]
    if not packed.is_delta:
        key = pb.LiveHeadKeyframe(
            sequence=sequence, data=packed.data, timestamp_us=answer.timestamp_us, stage_timings=all_timings
        )
        return pb.LiveResponse(head_keyframe=key)
    delta = pb.LiveHeadDelta(
        sequence=sequence,
        base_sequence=packed.base,
        data=packed.data,
        timestamp_us=answer.timestamp_us,
        stage_timings=all_timings,
    )
    return pb.LiveResponse(head_delta=delta)


def _crop_of(quality: head_pb2.Quality) -> tuple[float, ...] | None:
    """The map from a frame's pixels to its portrait crop of side 1."""
    side = quality.crop_size_px
    return tuple(x / side for x in quality.crop_from_source) if side and len(quality.crop_from_source) == 6 else None


def _creation(plan: SessionPlan, picture: bytes) -> Creation:
    """A frame as a Creation, of which nothing is stored."""
    frames = plan.options.frames
    options = CreateOptions("refuse" if frames.refuse_several_faces else "largest", None, frames.refine_steps)
    digest = hashlib.sha256(picture).hexdigest()
    return Creation(plan.tenant, picture, options, "", digest, "", validate_only=False, keep=False)
