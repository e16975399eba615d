"""Frames of a video clip, upright, in the order in which they are shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from PIL import Image

from headlift.errors import InvalidInputError, PictureTooLargeError, UnreadablePictureError

FRAMES_MAX = 36_000  # twenty minutes at 30 frames a second
_PIXELS_MAX = 4096 * 2304
_PNG_LEVEL = 1
_RATE = 30.0  # of clips that do not say when a frame is shown
_WAY_OUT = "Send MP4, MOV, WebM or MKV with one video stream."


@dataclass(frozen=True)
class Stride:
    """Which frames of a clip count: every ``step``-th, at most ``count`` of them (0: all there are).

    Raises:
        InvalidInputError: A value is out of range.
    """

    step: int = 1
    count: int = 0

    def __post_init__(self) -> None:
        for name, value, low in (("step", self.step, 1), ("count", self.count, 0)):
            if not low <= value <= FRAMES_MAX:
                raise InvalidInputError(f"{name} is {value}; it must lie in {low}..{FRAMES_MAX}.", field=name)


@dataclass(frozen=True)
class Frame:
    """One frame of a clip."""

    index: int  # of all frames, in the order in which they are shown, from 0
    time_s: float  # when it is shown, from the clip's first frame
    picture: av.VideoFrame

    def rgb(self) -> npt.NDArray[np.uint8]:
        """[H, W, 3] sRGB, upright."""
        rgb = self.picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        # Phones film on their side and say by how much; a quarter turn at a time, counter-clockwise.
        return np.ascontiguousarray(np.rot90(rgb, round(self.picture.rotation / 90) % 4))

    def png(self) -> bytes:
        """The frame as a picture file, without loss."""
        buffer = io.BytesIO()
        Image.fromarray(self.rgb()).save(buffer, "PNG", compress_level=_PNG_LEVEL)
        return buffer.getvalue()


def frames(clip: bytes, stride: Stride | None = None) -> Iterator[Frame]:
    """The frames of a clip that count, one in memory at a time.

    Raises:
        UnreadablePictureError: Not a clip, or damaged at its beginning; what can be read of a cut-off clip is given.
        PictureTooLargeError: Frames are too large, or there are more than ``FRAMES_MAX``.
    """
    stride = stride or Stride()
    try:
        with av.open(io.BytesIO(clip), "r", metadata_errors="ignore") as container:
            yield from _decode(container, stride)
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise UnreadablePictureError(f"The bytes are not a clip that can be read. {_WAY_OUT}") from error


def _decode(container: InputContainer, stride: Stride) -> Iterator[Frame]:
    stream = container.streams.video[0]
    if stream.width * stream.height > _PIXELS_MAX:
        raise PictureTooLargeError(
            f"The clip's frames are {stream.width}x{stream.height}; the limit is {_PIXELS_MAX:,} pixels. Shrink it."
        )
    rate, start = float(stream.average_rate or _RATE), 0.0
    pictures = container.decode(stream)
    index = -1
    while stride.count == 0 or index + 1 < stride.step * stride.count:
        try:
            picture = next(pictures)
        except StopIteration:
            return
        except av.error.FFmpegError:
            if index < 0:
                raise
            return  # a recording that was cut off
        index += 1
        if index >= FRAMES_MAX:
            raise PictureTooLargeError(f"The clip has more than {FRAMES_MAX:,} frames. Cut it into shorter ones.")
        shown_at = picture.time if picture.time is not None else index / rate
        start = shown_at if index == 0 else start
        if index % stride.step == 0:
            yield Frame(index, shown_at - start, picture)
