"""Frames of clips: order, times, rotation, and files that are none."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from headlift.errors import InvalidInputError, UnreadablePictureError
from headlift.media.clip import Stride, frames


def clip(count: int = 9, fps: int = 10, codec: str = "libx264", fmt: str = "mp4") -> bytes:
    """Grey frames, each brighter than the one before; B-frames make decoding order another."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=fmt) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(count):
            picture = np.full((48, 64, 3), 40 + 20 * (i % 10), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(("codec", "fmt"), [("libx264", "mp4"), ("libvpx-vp9", "webm"), ("libx264", "matroska")])
def test_frames_come_in_the_order_in_which_they_are_shown(codec, fmt):
    found = list(frames(clip(codec=codec, fmt=fmt)))
    assert [f.index for f in found] == list(range(9))
    assert [f.time_s for f in found] == pytest.approx([i / 10 for i in range(9)], abs=2e-3)
    assert all(f.rgb().shape == (48, 64, 3) for f in found)
    levels = [f.rgb().mean() for f in found]
    assert levels == sorted(levels)


def test_a_stride_takes_every_nth_frame_and_no_more_than_asked():
    data = clip()
    assert [f.index for f in frames(data, Stride(step=4))] == [0, 4, 8]
    assert [f.index for f in frames(data, Stride(step=2, count=3))] == [0, 2, 4]
    assert [f.index for f in frames(data, Stride(count=100))] == list(range(9))


def test_a_png_of_a_frame_is_the_frame():
    frame = next(frames(clip()))
    assert (np.asarray(Image.open(io.BytesIO(frame.png()))) == frame.rgb()).all()


def test_a_recording_that_was_cut_off_gives_what_there_is():
    whole = clip(count=60, fmt="matroska")
    found = list(frames(whole[: len(whole) * 2 // 3]))
    assert 0 < len(found) < 60


@pytest.mark.parametrize("data", [b"", b"no clip", clip()[:100]])
def test_what_is_no_clip_is_refused(data):
    with pytest.raises(UnreadablePictureError, match="not a clip"):
        list(frames(data))


def test_sound_alone_is_no_clip():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadablePictureError):
        list(frames(buffer.getvalue()))


def test_a_stride_out_of_range_is_refused():
    with pytest.raises(InvalidInputError, match="step is 0"):
        Stride(step=0)
