"""From a frame or viewpoint to what is sent: reconstruct, render, pack."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from headlift import codec, formats
from headlift.errors import HeadliftError
from headlift.gateway.live.heads import HeadSender, SentHead
from headlift.gateway.live.mailbox import Letter
from headlift.gateway.live.options import Plan
from headlift.gateway.live.packing import Packed, TooLargeError, packer_for
from headlift.gateway.pipeline import HeadRef, Pipeline, Shots
from headlift.gateway.timing import Stopwatch
from headlift.gateway.validation import CreateOptions, Creation
from headlift.gateway.workers import Workers
from headlift.model.types import Cameras
from headlift.store.heads import HeadName, HeadStore
from headlift.v1 import camera_pb2, head_pb2
from headlift.v1 import live_pb2 as pb

_RECHECK_S = 2.0  # how long a head that was deleted may still be seen
_FRONT = camera_pb2.Camera()


class NoHeadError(HeadliftError):
    """There is no head to look at yet; never leaves this package."""


class HeadGoneError(Exception):
    """The head was deleted; ``error`` ends the session."""

    def __init__(self, error: HeadliftError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Made:
    """What answers a letter, before it is packed."""

    sequence: int
    timestamp_us: int
    shots: Shots | None  # of the view, if there is one
    head: bool  # whether the head is part of the answer
    timings: list[head_pb2.StageTiming] = field(default_factory=list)


class Answerer:
    """One session's head, camera and encoders. Used by one task; what was begun by a cancelled call changes nothing."""

    def __init__(self, plan: Plan, pipeline: Pipeline, heads: HeadStore, storing: Workers) -> None:
        self._plan, self._pipeline, self._heads, self._storing = plan, pipeline, heads, storing
        self._packer, self._sender = packer_for(plan), HeadSender()
        self._name: HeadName | None = None
        # The same object for as long as it is looked at: renderers keep the head by its key.
        self._head: HeadRef | None = None
        self._head_sequence = 0
        self._cameras = self._look(_FRONT)
        self._seen: Letter | None = None  # what the last view answered
        self._checked = time.monotonic()
        self._view_count = 0

    async def load(self, name: HeadName) -> head_pb2.Head:
        """Take a stored head; its record. NotFoundError: there is none."""
        record = await self._storing.run(lambda _: self._heads.get(name))
        self._head = HeadRef(str(name), lambda: self._heads.gaussians(name), lambda: self._heads.packed(name))
        self._name = name
        return record

    async def make(self, letter: Letter, whole: bool) -> Made:
        """Compute what answers ``letter``; may be cancelled at any time. ``whole``: with the head, new or not.

        Raises:
            NoHeadError: A viewpoint came before the first frame; it counts from then on.
            HeadGoneError: The head was deleted meanwhile.
            HeadliftError: What the pipeline refuses.
        """
        timings = [head_pb2.StageTiming(stage="wait", duration_ms=letter.age_s * 1e3)]
        await self._check_head()
        if letter.kind == "frame":
            timings += await self._reconstruct(letter)
        else:
            self._cameras = self._look(letter.camera or _FRONT)  # refuses what no picture can be taken with
        if self._head is None:
            raise NoHeadError("There is no head yet.")
        shots = await self._render() if self._plan.views else None
        head = self._plan.heads and (whole or letter.kind == "frame")
        return Made(letter.sequence, letter.timestamp_us, shots, head, timings)

    async def again(self) -> Made | None:
        """What would be seen and held by a caller who had lost everything; None where nothing was answered yet."""
        await self._check_head()
        if self._head is None or not (self._plan.heads or self._seen):
            return None
        seen = self._seen
        shots = await self._render() if self._plan.views and seen else None
        sequence, timestamp_us = (seen.sequence, seen.timestamp_us) if seen else (self._head_sequence, 0)
        return Made(sequence, timestamp_us, shots, self._plan.heads)

    async def pack(self, made: Made, letter: Letter | None, keyframe: bool) -> list[pb.LiveResponse]:
        """What is sent. Not to be cancelled unless the session ends: encoders remember what they have packed.

        Raises:
            TooLargeError: The view does not fit, and there is nothing else to send.
        """
        self._seen = letter if letter is not None and self._plan.views else self._seen
        answers: list[pb.LiveResponse] = []
        if made.shots is not None:
            watch = Stopwatch()
            try:
                with watch.timing("pack"):
                    packed = await self._packed(made.shots.pictures[0], keyframe)
                answers.append(self._view(made, packed, [*made.shots.timings, *watch.timings]))
            except TooLargeError:
                if not made.head:
                    raise
        head = self._head
        if made.head and head is not None:
            if letter is not None and letter.kind == "frame":
                self._head_sequence = letter.sequence
            sequence, watch = self._head_sequence, Stopwatch()
            with watch.timing("pack"):
                sent = await self._storing.run(lambda _: self._sender.pack(sequence, head, keyframe))
            answers.append(_head(made, sequence, sent, watch.timings))
        return answers

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

    async def _reconstruct(self, letter: Letter) -> Iterable[head_pb2.StageTiming]:
        creation = await self._storing.run(lambda _: _creation(self._plan, letter.picture))
        made = await self._pipeline.reconstruct(creation)
        data = made.gaussians
        self._head = HeadRef(f"live/{uuid.uuid4().hex}", lambda: formats.read(data, "wire"), lambda: data)
        return made.head.stage_timings

    def _look(self, camera: camera_pb2.Camera) -> Cameras:
        return codec.cameras_from_messages([camera], self._plan.look.width, self._plan.look.height)

    async def _render(self) -> Shots:
        assert self._head is not None
        return await self._pipeline.render(self._head, self._cameras, self._plan.look)

    async def _packed(self, picture: bytes, keyframe: bool) -> Packed:
        if not self._packer.blocks:
            return self._packer.pack(picture, keyframe)
        return await self._storing.run(lambda _: self._packer.pack(picture, keyframe))

    def _view(self, made: Made, packed: Packed, timings: Sequence[head_pb2.StageTiming]) -> pb.LiveResponse:
        view = pb.LiveView(
            sequence=made.sequence,
            frame_index=self._view_count,
            data=packed.data,
            is_keyframe=packed.is_keyframe,
            quality=packed.quality,
            timestamp_us=made.timestamp_us,
            stage_timings=[*made.timings, *timings],
        )
        self._view_count += 1
        return pb.LiveResponse(view=view)


def _head(made: Made, sequence: int, sent: SentHead, timings: Sequence[head_pb2.StageTiming]) -> pb.LiveResponse:
    every = [*made.timings, *timings]
    if not sent.is_delta:
        key = pb.LiveHeadKeyframe(
            sequence=sequence, data=sent.data, timestamp_us=made.timestamp_us, stage_timings=every
        )
        return pb.LiveResponse(head_keyframe=key)
    delta = pb.LiveHeadDelta(
        sequence=sequence,
        base_sequence=sent.base,
        data=sent.data,
        timestamp_us=made.timestamp_us,
        stage_timings=every,
    )
    return pb.LiveResponse(head_delta=delta)


def _creation(plan: Plan, picture: bytes) -> Creation:
    """A frame as the pipeline takes portraits; nothing of it is remembered."""
    frames = plan.options.frames
    options = CreateOptions("refuse" if frames.refuse_several_faces else "largest", None, frames.refine_steps)
    digest = hashlib.sha256(picture).hexdigest()
    return Creation(plan.tenant, picture, options, "", digest, "", validate_only=False, keep=False)
