"""Live sessions: ``client.live(...)`` of both clients.

    with client.live(head="h0", format="jpeg") as live:
        live.look(camera(yaw_deg=20))
        for answer in live:
            if isinstance(answer, LiveView):
                answer.picture.image().show()
                live.look(camera(yaw_deg=answer.sequence % 360))

Credits are given back as answers are read, and a stream that breaks, or that the server says goodbye on, is continued
on another one: what was not answered by then comes as ``LiveDropped``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from google.rpc import status_pb2

from headlift.errors import HeadliftError, InvalidInputError
from headlift.formats.delta import DeltaDecoder
from headlift.gateway.status import error_of
from headlift.model.types import Gaussians
from headlift.serving.client import requests as make
from headlift.v1 import camera_pb2, head_pb2, picture_pb2
from headlift.v1 import live_pb2 as pb

Answers = Literal["views", "heads", "both"]
LiveFormat = make.PictureFormat | Literal["h264"]
_ANSWERS = {
    "views": [pb.LIVE_ANSWER_VIEWS],
    "heads": [pb.LIVE_ANSWER_HEADS],
    "both": [pb.LIVE_ANSWER_VIEWS, pb.LIVE_ANSWER_HEADS],
}
CREDIT = 4  # answers on their way at a time


@dataclass(frozen=True)
class LiveView:
    """A view. ``data`` is a packed picture, or one access unit of a video."""

    sequence: int
    index: int
    data: bytes
    is_keyframe: bool
    latency_s: float  # from sending what it answers to reading it
    dropped: int
    quality: int
    timings: list[head_pb2.StageTiming]
    picture: make.RenderedPicture | None = None  # None of a video


@dataclass(frozen=True)
class LiveHead:
    """A head, unpacked."""

    sequence: int
    head: Gaussians
    is_keyframe: bool
    size_bytes: int  # on the wire
    latency_s: float
    dropped: int
    timings: list[head_pb2.StageTiming]


@dataclass(frozen=True)
class LiveDropped:
    """What will not be answered; ``reason`` is replaced, deadline, too_large, no_head, closed or disconnected."""

    sequences: list[int]
    count: int
    reason: str


@dataclass(frozen=True)
class LiveRefused:
    """A frame or viewpoint that could not be served; the session goes on."""

    sequence: int
    error: HeadliftError


LiveEvent = LiveView | LiveHead | LiveDropped | LiveRefused


@dataclass
class LiveState:
    """A session as the client knows it: no network, shared by both clients."""

    opening: pb.LiveOpen
    opened: pb.LiveOpened | None = None
    leaving: bool = False  # the server said goodbye
    _sequence: int = 0
    _sent: dict[int, float] = field(default_factory=dict)  # when, of what has no outcome yet
    _answered: tuple[int, float] = (0, 0.0)  # the last sequence that was answered, and when it was sent
    _camera: camera_pb2.Camera | None = None
    _decoder: DeltaDecoder = field(default_factory=DeltaDecoder)

    def first(self) -> list[pb.LiveRequest]:
        """The first messages of a stream: they open the session, or continue it where it was looked from last."""
        self.leaving, self._decoder = False, DeltaDecoder()
        if self.opened is None:
            return [pb.LiveRequest(open=self.opening)]
        again = pb.LiveOpen(
            parent=self.opening.parent,
            resume_token=self.opened.resume_token,
            initial_credit=self.opening.initial_credit,
        )
        messages = [pb.LiveRequest(open=again)]
        return messages if self._camera is None else [*messages, self.look(self._camera)]

    def look(self, camera: camera_pb2.Camera | None) -> pb.LiveRequest:
        """A viewpoint under the next sequence."""
        self._camera = camera or camera_pb2.Camera()
        return pb.LiveRequest(viewpoint=pb.LiveViewpoint(sequence=self._next(), camera=camera))

    def frame(self, picture: bytes) -> pb.LiveRequest:
        """A frame under the next sequence."""
        return pb.LiveRequest(frame=pb.LiveFrame(sequence=self._next(), picture=picture))

    def take(self, answer: pb.LiveResponse) -> tuple[LiveEvent | None, list[pb.LiveRequest]]:
        """What an answer means to the caller, and what is sent back for it."""
        kind = answer.WhichOneof("message")
        if kind == "opened":
            self.opened = answer.opened
            return None, []
        if kind == "go_away":
            self.leaving = True
            if self.opened is not None:
                self.opened.resume_token = answer.go_away.resume_token
            return None, [pb.LiveRequest(close=pb.LiveClose())]
        if kind == "dropped":
            self._forget(answer.dropped.sequences)
            reason = pb.LiveDropReason.Name(answer.dropped.reason).removeprefix("LIVE_DROP_REASON_").lower()
            return LiveDropped(list(answer.dropped.sequences), answer.dropped.count, reason), []
        if kind == "error":
            self._forget([answer.error.sequence])
            fault = answer.error
            status = status_pb2.Status(code=fault.code, message=fault.message, details=fault.details)
            return LiveRefused(fault.sequence, error_of(status)), []
        if kind == "view":
            return self._view(answer.view), [_credit()]
        return self._head(answer)

    def lost(self) -> LiveDropped | None:
        """What a broken stream left without an answer."""
        sequences = sorted(self._sent)
        self._sent.clear()
        return LiveDropped(sequences, len(sequences), "disconnected") if sequences else None

    def _next(self) -> int:
        self._sequence += 1
        self._sent[self._sequence] = time.perf_counter()
        return self._sequence

    def _forget(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            self._sent.pop(sequence, None)

    def _latency(self, sequence: int) -> float:
        """Seconds since ``sequence`` was sent; 0 where nobody knows. View and head may answer the same one."""
        sent = self._sent.pop(sequence, None)
        if sent is not None:
            self._answered = (sequence, sent)
        return time.perf_counter() - self._answered[1] if self._answered[0] == sequence else 0.0

    def _view(self, view: pb.LiveView) -> LiveView:
        assert self.opened is not None
        options = self.opened.options
        picture = None
        if options.video != pb.LIVE_VIDEO_H264:
            look = options.picture
            picture = make.rendered(
                picture_pb2.Picture(
                    data=view.data,
                    format=look.format,
                    width_px=look.width_px,
                    height_px=look.height_px,
                    channel_count=4 if look.alpha else 3,
                )
            )
        return LiveView(
            view.sequence,
            view.frame_index,
            view.data,
            view.is_keyframe,
            self._latency(view.sequence),
            view.dropped_count,
            view.quality,
            list(view.stage_timings),
            picture,
        )

    def _head(self, answer: pb.LiveResponse) -> tuple[LiveHead | None, list[pb.LiveRequest]]:
        assert self.opened is not None
        key = answer.WhichOneof("message") == "head_keyframe"
        message = answer.head_keyframe if key else answer.head_delta
        try:
            head = self._decoder.keyframe(message.data) if key else self._decoder.delta(message.data)
        except InvalidInputError:
            self._forget([message.sequence])
            return None, [_credit(), pb.LiveRequest(keyframe=pb.LiveKeyframe())]
        event = LiveHead(
            message.sequence,
            head,
            key,
            len(message.data),
            self._latency(message.sequence),
            message.dropped_count,
            list(message.stage_timings),
        )
        return event, [_credit()]


def opening(
    tenant: str,
    *,
    head: make.HeadLike | None,
    portrait: bytes | None,
    refine_steps: int,
    answers: Answers,
    width: int,
    height: int,
    format: LiveFormat,
    quality: int,
    alpha: bool,
    sharpen: bool | None,
    max_fps: float,
    deadline_ms: int,
    view_bytes_max: int,
) -> pb.LiveOpen:
    """A LiveOpen; without head and portrait the source is frames."""
    if head is not None and portrait is not None:
        raise InvalidInputError("Both head and portrait are given; a session has one source.", field="head")
    if answers not in _ANSWERS:
        raise InvalidInputError(f"answers is {answers!r}; it must be one of {', '.join(_ANSWERS)}.", field="answers")
    video = format == "h264"
    options = make.picture_options(width, height, "raw_uint8" if format == "h264" else format, quality, alpha, sharpen)
    if video:
        options.ClearField("format")
    message = pb.LiveOpen(
        parent=f"tenants/{tenant}",
        answers=_ANSWERS[answers],
        picture=options,
        video=pb.LIVE_VIDEO_H264 if video else pb.LIVE_VIDEO_NONE,
        budget=pb.LiveBudget(max_fps=max_fps, deadline_ms=deadline_ms, view_bytes_max=view_bytes_max),
        initial_credit=CREDIT,
    )
    if head is not None:
        message.head = make.head_name(tenant, head)
    elif portrait is not None:
        message.portrait = portrait
    else:
        message.frames.CopyFrom(pb.LiveFrames(refine_steps=refine_steps))
    return message


def _credit() -> pb.LiveRequest:
    return pb.LiveRequest(credit=pb.LiveCredit(count=1))
