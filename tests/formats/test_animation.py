"""Animations as JSON."""

from __future__ import annotations

import json

import pytest

from headlift.errors import FormatError
from headlift.formats.animation import AnimationFrame, AnimationTrack, read_animation, write_animation

TRACK = AnimationTrack(("jawOpen", "mouthPucker"), (AnimationFrame(0.0, (0.0, 1.0)), AnimationFrame(0.5, (1.0, 0.0))))


def test_a_round_trip_changes_nothing() -> None:
    assert read_animation(write_animation(TRACK)) == TRACK


def test_what_stands_besides_is_passed_over_and_weights_are_clamped() -> None:
    frames = [{"weights": [1.2], "time": 0, "rotation": []}]
    assert read_animation(json.dumps({"names": ["jawOpen"], "metadata": 1, "frames": frames}).encode()).frames == (
        AnimationFrame(0.0, (1.0,)),
    )


def test_between_frames_weights_are_linear() -> None:
    assert TRACK.at(0.25) == pytest.approx((0.5, 0.5))
    assert TRACK.at(-1.0) == (0.0, 1.0)
    assert TRACK.at(9.0) == (1.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "no json",
        '{"names": ["a"], "frames": []}',
        '{"names": ["a"], "frames": [{"weights": [], "time": 0}]}',
        '{"names": ["a"], "frames": [{"weights": [0], "time": 1}, {"weights": [0], "time": 1}]}',
        '{"names": ["a"], "frames": [{"weights": [0], "time": NaN}]}',
        '{"names": ["a"], "frames": [{"weights": [NaN], "time": 0}]}',
        '{"names": ["a"], "frames": [{"weights": [1e999], "time": 0}]}',
        '{"names": ["a"], "frames": [{"weights": [1' + 400 * "0" + '], "time": 0}]}',
    ],
)
def test_what_is_no_animation_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        read_animation(text.encode())
