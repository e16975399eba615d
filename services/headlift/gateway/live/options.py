"""Options of a session: a LiveOpen, checked and with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass

from headlift.errors import InvalidInputError, PictureTooLargeError
from headlift.gateway.render_options import parse_render_options
from headlift.gateway.validation import check_enum, check_range, parse_name, parse_parent
from headlift.media.pictures import QUALITY_DEFAULT, RenderOptions
from headlift.media.video import even_sizes
from headlift.stages.rpc import SIZE_DEFAULT
from headlift.v1 import live_pb2 as pb
from headlift.v1 import picture_pb2

CREDIT_DEFAULT, CREDIT_MAX = 4, 64
_STEPS_MAX = 50
_FPS_MAX = 240.0
_DEADLINE_MAX_MS = 60_000
_VIEW_BYTES_MAX = 16 << 20
_ADAPTIVE = ("jpeg", "webp")
_RAW = picture_pb2.PICTURE_FORMAT_RAW_UINT8


@dataclass(frozen=True)
class LiveLimits:
    """What one server allows; seconds and bytes."""

    sessions: int = 64  # of all tenants together
    tenant_sessions: int = 32
    idle_s: float = 120.0  # without any message from the caller
    open_s: float = 30.0  # from the beginning of the stream to its first message
    answer_s: float = 60.0  # for making one answer, whatever the caller allows
    resume_s: float = 900.0  # for which a resume token can be used
    grace_s: float = 5.0  # from go_away to the end of a stream
    frame_bytes: int = 8 << 20


@dataclass(frozen=True)
class SessionPlan:
    """A checked LiveOpen.

    Attributes:
        options: The message itself, without portrait and token, every default filled in.
        tenant: Owner.
        render_options: How views are packed; for video and where bytes are bounded, plain pixels.
        views: Whether views are answered.
        heads: Whether heads are answered.
        video: Whether views are a video.
        format: How pictures are packed in the end; None for video.
    """

    options: pb.LiveOpen
    tenant: str
    render_options: RenderOptions
    views: bool
    heads: bool
    video: bool
    format: RenderOptions | None

    @property
    def answers_max(self) -> int:
        """Credits that one frame or viewpoint can cost."""
        return self.views + self.heads

    @property
    def from_frames(self) -> bool:
        """Whether every frame brings a head."""
        return self.options.WhichOneof("source") == "frames"


def parse_open(message: pb.LiveOpen, limits: LiveLimits) -> SessionPlan:
    """The plan of a LiveOpen without a token.

    Raises:
        InvalidInputError: A value cannot be used; ``field`` says which.
    """
    tenant = parse_parent(message.parent)
    _check_source(message, tenant, limits)
    options = pb.LiveOpen()
    options.CopyFrom(message)
    options.ClearField("resume_token")
    _fill_defaults(options)
    picture = parse_render_options(options.picture, 1)
    video = options.video == pb.LIVE_VIDEO_H264
    if video and (picture.width % 2 or picture.height % 2):
        raise InvalidInputError(
            f"A video of {picture.width}x{picture.height} cannot be made, both sides must be even; ask for "
            f"{even_sizes(picture.width, picture.height)}.",
            field="open.picture",
        )
    bounded = options.budget.view_bytes_max > 0 and not video
    if bounded and picture.format not in _ADAPTIVE:
        raise InvalidInputError(
            f"view_bytes_max cannot be kept with {picture.format}; ask for JPEG, WebP or video, or for no limit.",
            field="open.budget.view_bytes_max",
        )
    plain = RenderOptions(
        picture.width,
        picture.height,
        "raw_uint8",
        alpha=picture.alpha and not video,
        sharpen=picture.sharpen,
    )
    return SessionPlan(
        options=options,
        tenant=tenant,
        render_options=plain if video or bounded else picture,
        views=pb.LIVE_ANSWER_VIEWS in options.answers,
        heads=pb.LIVE_ANSWER_HEADS in options.answers,
        video=video,
        format=None if video else picture,
    )


def check_frame(frame: pb.LiveFrame, limits: LiveLimits) -> None:
    """Refuse a frame without a picture, or with one that is too large."""
    if not frame.picture:
        raise InvalidInputError("frame.picture is empty; send the bytes of an image file.", field="frame.picture")
    if len(frame.picture) > limits.frame_bytes:
        raise PictureTooLargeError(
            f"The frame has {len(frame.picture)} bytes; the limit is {limits.frame_bytes}. Send a smaller one.",
            field="frame.picture",
        )


def _check_source(message: pb.LiveOpen, tenant: str, limits: LiveLimits) -> None:
    source = message.WhichOneof("source")
    if source is None:
        raise InvalidInputError("open has no source; give head, portrait or frames.", field="open.source")
    if source == "head" and parse_name(message.head).tenant != tenant:
        raise InvalidInputError(
            f"open.head is {message.head[:200]!r}, which is not of {message.parent}.", field="open.head"
        )
    if source == "frames":
        check_range("open.frames.refine_steps", message.frames.refine_steps, 0, _STEPS_MAX)
    for answer in message.answers:
        if answer == pb.LIVE_ANSWER_UNSPECIFIED:
            raise InvalidInputError("open.answers holds UNSPECIFIED; name views or heads.", field="open.answers")
        check_enum(answer, pb.LiveAnswer.values(), "open.answers")
    check_enum(message.video, pb.LiveVideo.values(), "open.video")
    check_range("open.initial_credit", message.initial_credit, 0, CREDIT_MAX)
    budget = message.budget
    check_range("open.budget.max_fps", budget.max_fps, 0, _FPS_MAX)
    check_range("open.budget.deadline_ms", budget.deadline_ms, 0, _DEADLINE_MAX_MS)
    check_range("open.budget.view_bytes_max", budget.view_bytes_max, 0, _VIEW_BYTES_MAX)


def _fill_defaults(options: pb.LiveOpen) -> None:
    """Fill in what the caller left to the server."""
    answers = sorted(set(options.answers)) or [pb.LIVE_ANSWER_VIEWS]
    del options.answers[:]
    options.answers.extend(answers)
    options.initial_credit = options.initial_credit or CREDIT_DEFAULT
    options.video = options.video or pb.LIVE_VIDEO_NONE
    picture = options.picture
    picture.width_px, picture.height_px = picture.width_px or SIZE_DEFAULT, picture.height_px or SIZE_DEFAULT
    if options.video == pb.LIVE_VIDEO_H264:
        picture.format, picture.quality, picture.alpha = _RAW, 0, False
        picture.ClearField("format")
    else:
        picture.format = picture.format or picture_pb2.PICTURE_FORMAT_PNG
        picture.quality = picture.quality or QUALITY_DEFAULT
