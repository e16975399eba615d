"""HeadNet tells heads from what is none, and where the crop should have been."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headlift.model.checkpoint import load_checkpoint
from headlift.stages.preprocess.detect.headnet import ACCEPT, SIDE, sight_of
from headlift.stages.preprocess.geometry.resample import apply, compose, invert, scale_of, similarity
from headlift.stages.preprocess.interfaces import CLASSES


def test_an_untrained_network_has_no_sight(tiny_checkpoint):
    assert sight_of(load_checkpoint(tiny_checkpoint)[0]) is None


@pytest.fixture(scope="module")
def seen(sight, astronaut, astronaut_frame):
    return sight.look(astronaut, [astronaut_frame])[0]


def test_a_portrait_is_seen_and_parsed(seen):
    assert seen.score > 0.9
    assert seen.alpha.shape == (SIDE // 2, SIDE // 2)
    assert seen.parsing.shape == (len(CLASSES), SIDE // 2, SIDE // 2)
    assert np.allclose(seen.parsing.sum(0), 1.0, atol=1e-4)
    middle = seen.parsing[:, 44:56, 44:52].mean((1, 2))
    assert CLASSES[int(middle.argmax())] in ("face", "nose")
    assert abs(seen.yaw_deg) < 20


def test_the_five_points_lie_on_the_face(seen):
    eyes = np.array([[202.7, 100.9], [246.5, 103.3]])
    assert np.abs(seen.points[:2] - eyes).max() < 8
    assert seen.points[2, 1] < seen.points[3, 1]
    assert seen.points[3, 0] < seen.points[2, 0] < seen.points[4, 0]


@pytest.mark.parametrize(("turn", "scale", "shift"), [(14.0, 1.0, 0.0), (-9.0, 0.85, 0.06), (0.0, 1.15, -0.07)])
def test_a_wrong_crop_is_put_right(sight, seen, astronaut, turn, scale, shift):
    wrong = compose(similarity((0.5, 0.5), (0.5 + shift, 0.5), scale=scale, turn_deg=turn), seen.better_frame)
    other = sight.look(astronaut, [wrong])[0]
    assert other.score > ACCEPT
    between = compose(other.better_frame, invert(seen.better_frame))
    assert math.dist(apply(between, (0.5, 0.5)), (0.5, 0.5)) < 0.05
    assert scale_of(between) == pytest.approx(1.0, abs=0.08)
    assert abs(math.degrees(math.atan2(between[1, 0], between[0, 0]))) < 4


def test_a_mirrored_head_turns_the_other_way(sight, seen, astronaut, astronaut_frame):
    mirror = np.array([[-1.0, 0.0, 512.0], [0.0, 1.0, 0.0]])
    flip = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    frame = compose(flip, compose(astronaut_frame, mirror))
    other = sight.look(np.ascontiguousarray(astronaut[:, ::-1]), [frame])[0]
    assert other.yaw_deg == pytest.approx(-seen.yaw_deg, abs=6)


def test_what_is_no_head_is_not_believed(sight, seen, astronaut, headless):
    assert sight.steadiness(astronaut, seen) > 0.9
    for picture in headless.values():
        side = min(picture.shape[:2])
        frame = similarity((picture.shape[1] / 2, picture.shape[0] / 2), (0.5, 0.5), scale=1 / side)
        imagined = sight.look(picture, [frame])[0]
        assert min(imagined.score, sight.steadiness(picture, imagined)) < ACCEPT
