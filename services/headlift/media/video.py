"""Frames into a video that every browser and phone plays: H.264 in MP4."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from headlift.errors import InvalidInputError

FPS_DEFAULT = 30
_CRF = "17"  # visually lossless on splatted hair


def write_video(frames: Iterable[npt.NDArray[np.uint8]], path: Path, fps: int = FPS_DEFAULT) -> int:
    """Write frames [H, W, 3] sRGB as they come; how many there were.

    The video is BT.709, 4:2:0, with its index in front (plays while it loads); sides are even.

    Raises:
        InvalidInputError: No frame came, sizes differ, or a side is odd; or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part.mp4")
    try:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            count = _encode(container, frames, fps)
        temporary.replace(path)
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written: {error.strerror}.", reason="NO_FILE", field="path"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


def even_sizes(width: int, height: int) -> str:
    """The sizes nearest to this one that H.264 takes, for a message, such as ``510x512 or 512x514``; pixels."""
    smaller = max(width - width % 2, 2), max(height - height % 2, 2)
    larger = width + width % 2, height + height % 2
    return " or ".join(f"{w}x{h}" for w, h in dict.fromkeys((smaller, larger)))


def _encode(container: av.container.OutputContainer, frames: Iterable[npt.NDArray[np.uint8]], fps: int) -> int:
    stream: VideoStream | None = None
    count = 0
    for pixels in frames:
        height, width = pixels.shape[:2]
        if stream is None:
            stream = _open_stream(container, width, height, fps)
        if (stream.width, stream.height) != (width, height):
            raise InvalidInputError(f"Frame {count} is {width}x{height}; the film is {stream.width}x{stream.height}.")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = count, Fraction(1, fps)
        container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        count += 1
    if stream is None:
        raise InvalidInputError("A film needs at least one frame.")
    container.mux(stream.encode(None))
    return count


def _open_stream(container: av.container.OutputContainer, width: int, height: int, fps: int) -> VideoStream:
    if width % 2 or height % 2:
        raise InvalidInputError(
            f"A film of {width}x{height} cannot be made, both sides must be even; take {even_sizes(width, height)}.",
            field="size",
        )
    options = {"crf": _CRF, "preset": "medium", "colorprim": "bt709"}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    # Without these tags players guess BT.601 for small films and skin turns slightly green.
    stream.codec_context.color_primaries = 1
    stream.codec_context.color_trc = 1
    stream.codec_context.colorspace = 1
    stream.codec_context.color_range = 1
    return stream
