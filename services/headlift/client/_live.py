"""Live sessions without the network: what is sent, and what comes back means.

    with client.live(head="h0", format="jpeg") as session:
        session.send_viewpoint(camera(yaw_deg=20))
        for event in session:
            if isinstance(event, LiveView):
                event.picture.image().show()
                session.send_viewpoint(camera(yaw_deg=event.sequence % 360))

Credits are given back as answers are read, and a stream that breaks, or that the server says goodbye on, is continued
on another one: what was not answered by then comes as ``LiveDropped``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import grpc

from headlift.client._heads import HeadLike, head_name
from headlift.client._pictures import PictureFormat, RenderedPicture, picture_of, picture_options
from headlift.client._retry import error_from_rpc
from headlift.errors import HeadliftError, InvalidInputError, ServerError
from headlift.status import error_of
from headlift.v1 import camera_pb2, head_pb2, picture_pb2
from headlift.v1 import live_pb2 as pb

if TYPE_CHECKING:
    from headlift.formats import Gaussians
    from headlift.formats.delta import DeltaDecoder

Answers = Literal["views", "heads", "both"]
LiveFormat = PictureFormat | Literal["h264"]
_ANSWERS = {
    "views": [pb.LIVE_ANSWER_VIEWS],
    "heads": [pb.LIVE_ANSWER_HEADS],
    "both": [pb.LIVE_ANSWER_VIEWS, pb.LIVE_ANSWER_HEADS],
}
_CREDIT = 4  # answers on their way at a time


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
    picture: RenderedPicture | None = None  # None of a video


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


def live(
    tenant: str,
    *,
    head: HeadLike | None = None,
    portrait: bytes | None = None,
    refine_steps: int = 0,
    answers: Answers = "views",
    width: int = 512,
    height: int = 512,
    format: LiveFormat = "jpeg",
    quality: int = 0,
    alpha: bool = False,
    sharpen: bool | None = None,
    max_fps: float = 0.0,
    deadline_ms: int = 0,
    view_bytes_max: int = 0,
    resume: bool = True,
) -> LiveState:
    """A live session on a stored head, on a portrait (stored first), or else on the frames that are sent.

    See LiveOpen in the contract for the options; ``resume`` continues a broken stream on another one.
    """
    if head is not None and portrait is not None:
        raise InvalidInputError("Both head and portrait are given; a session has one source.", field="head")
    if answers not in _ANSWERS:
        raise InvalidInputError(f"answers is {answers!r}; it must be one of {', '.join(_ANSWERS)}.", field="answers")
    picture = picture_options(width, height, "raw_uint8" if format == "h264" else format, quality, alpha, sharpen)
    if format == "h264":
        picture.ClearField("format")
    message = pb.LiveOpen(
        parent=f"tenants/{tenant}",
        answers=_ANSWERS[answers],
        picture=picture,
        video=pb.LIVE_VIDEO_H264 if format == "h264" else pb.LIVE_VIDEO_NONE,
        budget=pb.LiveBudget(max_fps=max_fps, deadline_ms=deadline_ms, view_bytes_max=view_bytes_max),
        initial_credit=_CREDIT,
    )
    if head is not None:
        message.head = head_name(tenant, head)
    elif portrait is not None:
        message.portrait = portrait
    else:
        message.frames.refine_steps = refine_steps
        message.frames.SetInParent()
    return LiveState(message, resume)


@dataclass
class LiveState:
    """A session as the client knows it, shared by both faces."""

    opening: pb.LiveOpen
    resume: bool = True
    opened: pb.LiveOpened | None = None
    closed: bool = False  # by the caller
    _going_away: bool = False  # the server said goodbye
    _sequence: int = 0
    _sent: dict[int, float] = field(default_factory=dict)  # when, of what has no outcome yet
    _answered: tuple[int, float] = (0, 0.0)  # the last sequence that was answered, and when it was sent
    _camera: camera_pb2.Camera | None = None
    _decoder: DeltaDecoder | None = None

    def first_messages(self) -> list[pb.LiveRequest]:
        """The first messages of a stream: they open the session, or continue it with the last viewpoint."""
        self._going_away, self._decoder = False, None
        if self.opened is None:
            return [pb.LiveRequest(open=self.opening)]
        again = pb.LiveOpen(
            parent=self.opening.parent,
            resume_token=self.opened.resume_token,
            initial_credit=self.opening.initial_credit,
        )
        messages = [pb.LiveRequest(open=again)]
        return messages if self._camera is None else [*messages, self.viewpoint(self._camera)]

    def viewpoint(self, camera: camera_pb2.Camera | None) -> pb.LiveRequest:
        """A viewpoint under the next sequence."""
        self._camera = camera or camera_pb2.Camera()
        return pb.LiveRequest(viewpoint=pb.LiveViewpoint(sequence=self._next_sequence(), camera=camera))

    def frame(self, picture: bytes) -> pb.LiveRequest:
        """A frame under the next sequence."""
        return pb.LiveRequest(frame=pb.LiveFrame(sequence=self._next_sequence(), picture=picture))

    def receive(self, response: pb.LiveResponse) -> tuple[LiveEvent | None, list[pb.LiveRequest]]:
        """What a response means to the caller, and what is sent back for it."""
        kind = response.WhichOneof("message")
        if kind == "opened":
            self.opened = response.opened
            return None, []
        if kind == "go_away":
            self._going_away = True
            if self.opened is not None:
                self.opened.resume_token = response.go_away.resume_token
            return None, [pb.LiveRequest(close=pb.LiveClose())]
        if kind == "dropped":
            self._forget(response.dropped.sequences)
            reason = pb.LiveDropReason.Name(response.dropped.reason).removeprefix("LIVE_DROP_REASON_").lower()
            return LiveDropped(list(response.dropped.sequences), response.dropped.count, reason), []
        if kind == "error":
            self._forget([response.error.sequence])
            return LiveRefused(response.error.sequence, error_of(response.error)), []
        if kind == "view":
            return self._view(response.view), [_credit()]
        return self._head(response)

    def take_unanswered(self) -> LiveDropped | None:
        """What a broken stream left without an answer; reported once."""
        sequences = sorted(self._sent)
        self._sent.clear()
        return LiveDropped(sequences, len(sequences), "disconnected") if sequences else None

    def goes_on(self, failure: grpc.RpcError | None) -> bool:
        """Whether a session whose stream has ended is to be continued on another one.

        Raises:
            HeadliftError: It cannot go on.
        """
        if self.closed:
            return False
        error = error_from_rpc(failure) if failure is not None else None
        if self.resume and (self._going_away or (error is not None and error.code == "UNAVAILABLE")):
            return True
        if error is not None:
            raise error from None
        return False

    def _next_sequence(self) -> int:
        self._sequence += 1
        self._sent[self._sequence] = time.perf_counter()
        return self._sequence

    def _forget(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            self._sent.pop(sequence, None)

    def _latency_s(self, sequence: int) -> float:
        """Seconds since ``sequence`` was sent; 0 where nobody knows. View and head may answer the same one."""
        sent = self._sent.pop(sequence, None)
        if sent is not None:
            self._answered = (sequence, sent)
        return time.perf_counter() - self._answered[1] if self._answered[0] == sequence else 0.0

    def _view(self, view: pb.LiveView) -> LiveView:
        assert self.opened is not None
        picture, options = None, self.opened.options.picture
        if self.opened.options.video != pb.LIVE_VIDEO_H264:
            picture = picture_of(
                picture_pb2.Picture(
                    data=view.data,
                    format=options.format,
                    width_px=options.width_px,
                    height_px=options.height_px,
                    channel_count=4 if options.alpha else 3,
                )
            )
        return LiveView(
            view.sequence,
            view.frame_index,
            view.data,
            view.is_keyframe,
            self._latency_s(view.sequence),
            view.dropped_count,
            view.quality,
            list(view.stage_timings),
            picture,
        )

    def _head(self, response: pb.LiveResponse) -> tuple[LiveHead | None, list[pb.LiveRequest]]:
        if self._decoder is None:
            from headlift.formats.delta import DeltaDecoder  # brings torch, which clients of views do without

            self._decoder = DeltaDecoder()
        is_keyframe = response.WhichOneof("message") == "head_keyframe"
        message = response.head_keyframe if is_keyframe else response.head_delta
        decode = self._decoder.keyframe if is_keyframe else self._decoder.delta
        try:
            head = decode(message.data)
        except InvalidInputError:
            self._forget([message.sequence])
            return None, [_credit(), pb.LiveRequest(keyframe=pb.LiveKeyframe())]
        event = LiveHead(
            message.sequence,
            head,
            is_keyframe,
            len(message.data),
            self._latency_s(message.sequence),
            message.dropped_count,
            list(message.stage_timings),
        )
        return event, [_credit()]


class BaseLiveSession:
    """What both faces' sessions say of themselves."""

    def __init__(self, state: LiveState) -> None:
        self._state = state

    @property
    def opened(self) -> pb.LiveOpened:
        """What the server said when the session began, with the newest resume token."""
        assert self._state.opened is not None
        return self._state.opened

    @property
    def head(self) -> head_pb2.Head:
        """The head that is viewed; without a name where frames bring heads."""
        return self.opened.head


def sequence_of(message: pb.LiveRequest) -> int:
    """The sequence of a frame or viewpoint."""
    return message.frame.sequence or message.viewpoint.sequence


def ended_early() -> ServerError:
    """For a stream that ended well before it said anything."""
    return ServerError("The server ended the stream before the session began; try again.")


def _credit() -> pb.LiveRequest:
    return pb.LiveRequest(credit=pb.LiveCredit(count=1))
