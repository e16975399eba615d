"""HeadNet tells heads from what is none, and where the crop should have been."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headlift.model.checkpoint import load_checkpoint
from headlift.stages.preprocess.detect.headnet import ACCEPT, SIDE, headnet_detector
from headlift.stages.preprocess.geometry.resample import apply, compose, invert, scale_of, similarity
from headlift.stages.preprocess.interfaces import CLASSES


def test_an_untrained_network_has_no_detector(tiny_checkpoint):
    assert headnet_detector(load_checkpoint(tiny_checkpoint)[0]) is None


@pytest.fixture(scope="module")
def detection(headnet, astronaut, astronaut_frame):
    return headnet.detect(astronaut, [astronaut_frame])[0]


def test_a_portrait_is_detected_and_parsed(detection):
    assert detection.score > 0.9
    assert detection.alpha.shape == (SIDE // 2, SIDE // 2)
    assert detection.parsing.shape == (len(CLASSES), SIDE // 2, SIDE // 2)
    assert np.allclose(detection.parsing.sum(0), 1.0, atol=1e-4)
    middle = detection.parsing[:, 44:56, 44:52].mean((1, 2))
    assert CLASSES[int(middle.argmax())] in ("face", "nose")
    assert abs(detection.yaw_deg) < 20


def test_the_five_points_lie_on_the_face(detection):
    eyes = np.array([[202.7, 100.9], [246.5, 103.3]])
    assert np.abs(detection.points[:2] - eyes).max() < 8
    assert detection.points[2, 1] < detection.points[3, 1]
    assert detection.points[3, 0] < detection.points[2, 0] < detection.points[4, 0]


@pytest.mark.parametrize(("turn", "scale", "shift"), [(14.0, 1.0, 0.0), (-9.0, 0.85, 0.06), (0.0, 1.15, -0.07)])
def test_a_wrong_crop_is_put_right(headnet, detection, astronaut, turn, scale, shift):
    wrong = compose(similarity((0.5, 0.5), (0.5 + shift, 0.5), scale=scale, turn_deg=turn), detection.corrected_frame)
    other = headnet.detect(astronaut, [wrong])[0]
    assert other.score > ACCEPT
    between = compose(other.corrected_frame, invert(detection.corrected_frame))
    assert math.dist(apply(between, (0.5, 0.5)), (0.5, 0.5)) < 0.05
    assert scale_of(between) == pytest.approx(1.0, abs=0.08)
    assert abs(math.degrees(math.atan2(between[1, 0], between[0, 0]))) < 4


def test_a_mirrored_head_turns_the_other_way(headnet, detection, astronaut, astronaut_frame):
    mirror = np.array([[-1.0, 0.0, 512.0], [0.0, 1.0, 0.0]])
    flip = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    frame = compose(flip, compose(astronaut_frame, mirror))
    other = headnet.detect(np.ascontiguousarray(astronaut[:, ::-1]), [frame])[0]
    assert other.yaw_deg == pytest.approx(-detection.yaw_deg, abs=6)


def test_what_is_no_head_gets_a_low_score(headnet, detection, astronaut, headless):
    assert headnet.consistency(astronaut, detection) > 0.9
    for picture in headless.values():
        side = min(picture.shape[:2])
        frame = similarity((picture.shape[1] / 2, picture.shape[0] / 2), (0.5, 0.5), scale=1 / side)
        false_alarm = headnet.detect(picture, [frame])[0]
        assert min(false_alarm.score, headnet.consistency(picture, false_alarm)) < ACCEPT
