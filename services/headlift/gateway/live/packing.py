"""Packing of answers: views as pictures or H.264 within a number of bytes, heads as keyframes and deltas."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from PIL import Image

from headlift.backend.protocol import HeadRef
from headlift.errors import InvalidInputError
from headlift.formats.delta import DeltaEncoder, DeltaOptions
from headlift.gateway.live.options import SessionPlan
from headlift.media.pictures import RenderOptions

_QUALITY_MIN = 10  # below, JPEG and WebP save few bytes more
_QUALITY_FACTOR, _QUALITY_RISE = 0.75, 2  # down at once, so that the view fits; up slowly, so that it does not flicker
_CRF = 23  # x264's default
_GOP = 300  # views between keyframes at most; callers that lose one request another
_KEYFRAME_S = 10.0  # between keyframes at most, however few the views are: relays and joiners ask for none
_FPS_ASSUMED = 30.0  # without max_fps; only rate control and time stamps depend on it
_CLOCK = 90_000  # of time stamps, 1/s, as in RTP
_DELTA_SIZE_MAX = 0.9  # of a whole head's: a larger delta does not pay for its dependence on the head before


class TooLargeError(InvalidInputError):
    """A view cannot be made to fit; never leaves this package."""


@dataclass(frozen=True)
class PackedView:
    """A view, ready to be sent."""

    data: bytes
    is_keyframe: bool
    quality: int = 0


class ViewPacker(Protocol):
    """Packs views rendered with ``SessionPlan.render_options``, one at a time; on a thread where it ``blocks``."""

    blocks: bool

    def pack(self, rendered: bytes, keyframe: bool) -> PackedView:
        """One view. TooLargeError: it would not fit."""
        ...


def view_packer(plan: SessionPlan) -> ViewPacker:
    """The packer of a session's views."""
    if plan.format is None:
        budget = plan.options.budget
        return VideoPacker(
            plan.render_options.width, plan.render_options.height, budget.max_fps or _FPS_ASSUMED, budget.view_bytes_max
        )
    if plan.options.budget.view_bytes_max:
        return BoundedPacker(plan.format, plan.options.budget.view_bytes_max)
    return PlainPacker(plan.format)


class PlainPacker:
    """Passes on pictures, which the pipeline has packed."""

    blocks = False

    def __init__(self, options: RenderOptions) -> None:
        self._quality = options.quality if options.format in ("jpeg", "webp") else 0

    def pack(self, rendered: bytes, keyframe: bool) -> PackedView:
        """See ViewPacker."""
        return PackedView(rendered, True, self._quality)


class BoundedPacker:
    """JPEG or WebP of at most so many bytes; quality falls at once and recovers slowly."""

    blocks = True

    def __init__(self, options: RenderOptions, bytes_max: int) -> None:
        self._options, self._bytes_max = options, bytes_max
        self._quality = options.quality

    def pack(self, rendered: bytes, keyframe: bool) -> PackedView:
        """See ViewPacker."""
        options = self._options
        image = Image.fromarray(
            np.frombuffer(rendered, np.uint8).reshape(options.height, options.width, options.channels)
        )
        while True:
            data = _still(image, options.format, self._quality)
            if len(data) <= self._bytes_max:
                break
            if self._quality <= _QUALITY_MIN:
                raise TooLargeError(f"The view has {len(data)} bytes at the lowest quality.")
            self._quality = max(_QUALITY_MIN, int(self._quality * _QUALITY_FACTOR))
        packed = PackedView(data, True, self._quality)
        if len(data) < 0.8 * self._bytes_max:
            self._quality = min(options.quality, self._quality + _QUALITY_RISE)
        return packed


class VideoPacker:
    """H.264 of low latency: no B-frames, no look-ahead, one access unit out for every view in."""

    blocks = True

    def __init__(
        self, width: int, height: int, fps: float, bytes_max: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``bytes_max`` of a view; 0: any number. ``clock``: seconds."""
        self._clock, self._packed_at, self._keyframe_at = clock, 0.0, 0.0
        self._size = (width, height)
        self._codec = _open_encoder(width, height, fps, bytes_max)
        self._count = 0
        self._tick = round(_CLOCK / fps)

    def pack(self, rendered: bytes, keyframe: bool) -> PackedView:
        """See ViewPacker."""
        width, height = self._size
        pixels: npt.NDArray[np.uint8] = np.frombuffer(rendered, np.uint8).reshape(height, width, 3)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = self._count * self._tick, Fraction(1, _CLOCK)
        keyframe = keyframe or self._count == 0 or self._keyframe_due()
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._count += 1
        packets = self._codec.encode(frame)
        packed = PackedView(b"".join(map(bytes, packets)), any(p.is_keyframe for p in packets))
        self._packed_at = self._clock()
        if packed.is_keyframe:
            self._keyframe_at = self._packed_at
        return packed

    def _keyframe_due(self) -> bool:
        """Whether the next view, coming as long after this one as this after the last, would be too late for it."""
        now = self._clock()
        return now + (now - self._packed_at) - self._keyframe_at > _KEYFRAME_S


def _open_encoder(width: int, height: int, fps: float, bytes_max: int) -> VideoCodecContext:
    codec: VideoCodecContext = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.framerate = Fraction(fps).limit_denominator(1000)
    codec.time_base = Fraction(1, _CLOCK)
    codec.gop_size, codec.max_b_frames, codec.thread_count = _GOP, 0, 1
    codec.color_primaries = codec.color_trc = codec.colorspace = 1  # BT.709, as films
    codec.color_range = 1
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(_CRF)}
    options |= {
        "forced-idr": "1",
        "x264-params": "scenecut=0",
    }  # keyframes only where asked for, as IDR
    if bytes_max:
        rate = int(bytes_max * 8 * fps)
        options |= {"maxrate": str(rate), "bufsize": str(bytes_max * 8)}  # one view's bytes
    codec.options = options
    codec.open()
    return codec


def _still(image: Image.Image, kind: str, quality: int) -> bytes:
    options: dict[str, Any] = {"format": "WEBP", "method": 2}
    if kind == "jpeg":
        options = {"format": "JPEG", "subsampling": 0}
    buffer = io.BytesIO()
    image.save(buffer, quality=quality, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class PackedHead:
    """A head, whole or as a delta."""

    data: bytes
    is_delta: bool
    base: int = 0  # sequence of the head that a delta changes


class HeadPacker:
    """Packs one session's heads, one at a time; on a thread."""

    def __init__(self, options: DeltaOptions | None = None) -> None:
        self._encoder = DeltaEncoder(options)
        self._last: int | None = None

    def pack(self, sequence: int, head: HeadRef, keyframe: bool) -> PackedHead:
        """``head`` as a delta where that saves bytes, else whole; may wait for the store."""
        packed = head.packed()
        base, self._last = self._last, sequence
        delta = None if keyframe or base is None else self._encoder.delta(head.unpacked())
        if base is None or delta is None or len(delta) > _DELTA_SIZE_MAX * len(packed):
            return PackedHead(self._encoder.keyframe(packed), is_delta=False)
        return PackedHead(delta, True, base)
