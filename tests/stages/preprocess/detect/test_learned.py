"""Learned faces: cascades' hits put right, heads that no cascade sees, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headlift.stages.preprocess.detect.headnet import ACCEPT
from headlift.stages.preprocess.detect.learned import HeadNetRefiner, HeadNetSearch, LearnedFaceDetector
from headlift.stages.preprocess.geometry.crop import crop_from_face
from headlift.stages.preprocess.geometry.resample import apply, invert, scale_of
from headlift.stages.preprocess.interfaces import Face, FaceDetector, FaceRefiner, FaceTracker


class Blind:
    """A detector that never finds anything."""

    def detect(self, rgb):
        return []


class Claims:
    """A detector that claims a face at one place."""

    def __init__(self, face: Face) -> None:
        self.face = face

    def detect(self, rgb):
        return [self.face]


@pytest.fixture(scope="module")
def refiner(headnet):
    return HeadNetRefiner(headnet)


@pytest.fixture(scope="module")
def refined(refiner, rough_face, astronaut):
    return refiner.refine(astronaut, [rough_face])[0]


def middle_and_scale(face: Face) -> tuple[np.ndarray, float]:
    return apply(invert(crop_from_face(face, 1)), (0.5, 0.5)), scale_of(crop_from_face(face, 1))


def test_a_rough_face_is_measured_again(refiner, refined, rough_face):
    assert isinstance(refiner, FaceRefiner)
    assert refined.score > 0.9
    assert refined.landmarks is not None
    assert np.abs(refined.landmarks[:2] - np.array([[202.7, 100.9], [246.5, 103.3]])).max() < 8
    assert refined.size == pytest.approx(rough_face.size, rel=0.2)


def test_different_guesses_end_at_one_face(refiner, refined, rough_face, astronaut):
    x0, y0, x1, y1 = rough_face.box
    side = rough_face.size
    guesses = [
        replace(rough_face, box=(x0 + 0.15 * side, y0, x1 + 0.15 * side, y1), landmarks=None),
        replace(rough_face, box=(x0 + 9, y0 + 9, x1 - 9, y1 - 9), landmarks=None, roll_deg=12.0),
    ]
    for other in refiner.refine(astronaut, guesses):
        (a, s), (b, t) = middle_and_scale(refined), middle_and_scale(other)
        assert np.abs(a - b).max() < 0.06 / s
        assert t == pytest.approx(s, rel=0.08)


def test_a_place_without_a_head_gets_a_low_score(refiner, astronaut):
    places = [(100.0, 400.0, 90.0), (300.0, 380.0, 100.0), (400.0, 350.0, 90.0), (420.0, 20.0, 80.0)]  # suit, wall
    guesses = [Face((x, y, x + side, y + side), 0.9) for x, y, side in places]
    assert max(face.score for face in refiner.refine(astronaut, guesses)) < ACCEPT
    assert refiner.refine(astronaut, []) == []


def test_the_search_needs_no_cascade(refiner, refined, astronaut):
    detector = LearnedFaceDetector(Blind(), refiner, HeadNetSearch(refiner))
    assert isinstance(detector, FaceDetector)
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    (a, s), (b, t) = middle_and_scale(refined), middle_and_scale(faces[0])
    assert np.abs(a - b).max() < 0.08 / s
    assert t == pytest.approx(s, rel=0.1)


def test_a_head_from_behind_is_found(refiner, from_behind):
    picture, frame = from_behind
    faces = HeadNetSearch(refiner).detect(picture)
    assert len(faces) == 1
    assert abs(faces[0].yaw_hint) > 100
    assert faces[0].landmarks is None
    middle = apply(frame, apply(invert(crop_from_face(faces[0], 1)), (0.5, 0.5)))
    assert np.abs(middle - 0.5).max() < 0.12


def test_nothing_is_found_where_there_is_no_head(refiner, headless):
    for name in ("cat", "coffee"):
        assert HeadNetSearch(refiner).detect(headless[name]) == []


def test_a_head_that_moved_a_little_is_found_again_without_a_search(refiner, refined, astronaut):
    detector = LearnedFaceDetector(Blind(), refiner, Blind())
    assert isinstance(detector, FaceTracker)
    moved = np.roll(astronaut, (6, -9), (0, 1))
    face = detector.track(moved, crop_from_face(refined, 1))
    assert face is not None
    (a, s), (b, t) = middle_and_scale(refined), middle_and_scale(face)
    assert np.abs(a + np.array([-9, 6]) - b).max() < 0.03 / s
    assert t == pytest.approx(s, rel=0.05)


def test_a_head_that_left_is_not_found_where_it_was(refiner, refined, headless):
    detector = LearnedFaceDetector(Blind(), refiner, Blind())
    for name in ("cat", "coffee"):
        assert detector.track(headless[name], crop_from_face(refined, 1)) is None


def test_headnet_overrules_an_unsure_detector_and_not_a_sure_one(refiner):
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    claimed = Face((50.0, 50.0, 110.0, 110.0), 0.5)
    assert LearnedFaceDetector(Claims(claimed), refiner, Blind()).detect(noise) == []
    sure = replace(claimed, score=0.8)
    assert LearnedFaceDetector(Claims(sure), refiner, Blind()).detect(noise) == [sure]
