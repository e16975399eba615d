"""H.264 as decoders, relays and joiners need it: access units, keyframes by count and by clock, budgets, sizes."""

from __future__ import annotations

import av
import numpy as np
import pytest

from headlift.errors import InvalidInputError
from headlift.gateway.live.options import LiveLimits, parse_open
from headlift.gateway.live.packing import VideoPacker
from headlift.v1 import live_pb2 as pb
from headlift.v1 import picture_pb2

WIDTH, HEIGHT = 64, 48
IDR, SPS, PPS, SLICE = 5, 7, 8, 1


def picture(number: int, noise: float = 0.0, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A moving gradient."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    shade = (np.stack([x * 3 + number * 5, y * 4, x + y + number], -1) % 256).astype(float)
    shade += np.random.default_rng(number).normal(0.0, noise, shade.shape)
    return shade.clip(0, 255).astype(np.uint8).tobytes()


def units(data: bytes) -> list[int]:
    """NAL unit types of an Annex B access unit, in order."""
    starts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    assert starts[0] == b""  # it begins with a start code
    return [unit[0] & 31 for unit in starts[1:]]


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("between_s", [1 / 30, 1.0, 1.7, 4.0, 6.0, 9.0])
def test_keyframes_come_by_themselves_at_least_every_ten_seconds(between_s: float) -> None:
    clock, keys = Clock(), []
    packer = VideoPacker(WIDTH, HEIGHT, 30.0, 0, clock)
    begin = clock.now
    for number in range(round(40 / between_s)):
        if packer.pack(picture(number), keyframe=False).is_keyframe:
            keys.append(clock.now - begin)
        clock.now += between_s
    gaps = np.diff([*keys, clock.now - begin])
    assert gaps.max() <= 10.0 + 1e-6
    assert len(keys) <= 40 / min(10.0 - between_s, 5.0) + 1  # and no more often than that takes


def test_at_a_high_rate_keyframes_come_by_count() -> None:
    packer = VideoPacker(WIDTH, HEIGHT, 240.0, 0, Clock())
    keys = [n for n in range(601) if packer.pack(picture(n), keyframe=False).is_keyframe]
    assert keys == [0, 300, 600]


def test_a_keyframe_that_was_asked_for_puts_off_the_next() -> None:
    clock = Clock()
    packer = VideoPacker(WIDTH, HEIGHT, 30.0, 0, clock)
    keys = []
    for second in range(20):
        if packer.pack(picture(second), keyframe=second == 7).is_keyframe:
            keys.append(second)
        clock.now += 1.0
    assert keys == [0, 7, 17]


def test_every_keyframe_is_an_idr_with_its_parameter_sets_and_starts_a_decoder() -> None:
    packer = VideoPacker(WIDTH, HEIGHT, 30.0, 0)
    packed = [packer.pack(picture(n), keyframe=n == 5) for n in range(10)]
    for n, view in enumerate(packed):
        found = units(view.data)
        if n in (0, 5):
            assert view.is_keyframe
            assert [kind for kind in found if kind in (SPS, PPS, IDR, SLICE)][:3] == [SPS, PPS, IDR]
        else:
            assert not view.is_keyframe
            assert set(found) & {SPS, PPS, IDR, SLICE} == {SLICE}
    for first in (0, 5):  # a joiner at a keyframe sees a picture at once
        decoder = av.CodecContext.create("h264", "r")
        shown = [f for view in packed[first:] for f in decoder.decode(av.Packet(view.data))] + decoder.decode(None)
        assert len(shown) == 10 - first
        wanted = np.frombuffer(picture(first), np.uint8).reshape(HEIGHT, WIDTH, 3).astype(float)
        assert np.abs(shown[0].to_ndarray(format="rgb24") - wanted).mean() < 12


@pytest.mark.parametrize("noise", [0.0, 25.0, 80.0])
def test_no_access_unit_is_above_its_budget_by_more_than_a_fifth(noise: float) -> None:
    clock = Clock()
    packer = VideoPacker(256, 256, 30.0, 4000, clock)
    sizes = []
    for number in range(60):
        packed = packer.pack(picture(number, noise, 256, 256), keyframe=number in (20, 21))
        sizes.append(len(packed.data))
        clock.now += 0.5
    assert max(sizes) <= 4000 * 1.2


@pytest.mark.parametrize(
    ("width", "height", "nearest"),
    [(511, 513, "510x512 or 512x514"), (512, 513, "512x512 or 512x514"), (511, 512, "510x512 or 512x512")],
)
def test_odd_sizes_are_refused_with_the_nearest_even_ones(width: int, height: int, nearest: str) -> None:
    look = picture_pb2.PictureOptions(width_px=width, height_px=height)
    message = pb.LiveOpen(parent="tenants/acme", head="tenants/acme/heads/a", picture=look, video=pb.LIVE_VIDEO_H264)
    with pytest.raises(InvalidInputError, match=nearest):
        parse_open(message, LiveLimits())
    message.video = pb.LIVE_VIDEO_NONE
    parse_open(message, LiveLimits())  # pictures may have any size
