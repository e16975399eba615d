"""Faces are found at every rotation and size, and nothing else is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data

from headlift.stages.preprocess.detect.haar import HaarFaceDetector
from headlift.stages.preprocess.geometry.resample import apply, similarity, warp
from headlift.stages.preprocess.interfaces import FaceDetector

EYES = np.array([[202.7, 100.9], [246.5, 103.3]])  # of the astronaut, by hand
CENTER = np.array([225.0, 114.0])
SIDE = 98.0


@pytest.fixture(scope="module")
def detector():
    return HaarFaceDetector()


def test_it_is_a_face_detector(detector):
    assert isinstance(detector, FaceDetector)


@pytest.mark.parametrize("turn", [0, 20, -45, 90, 163, 180, -90])
def test_the_astronaut_is_found_at_every_rotation(detector, astronaut, turn):
    onto = similarity((256, 256), (370, 370), turn_deg=turn)
    faces = detector.detect(warp(astronaut, onto, (740, 740), replicate=True))
    assert len(faces) == 1
    face = faces[0]
    assert np.linalg.norm(np.array(face.center) - apply(onto, CENTER)) < 0.06 * SIDE
    assert face.size == pytest.approx(SIDE, rel=0.1)
    assert (face.roll_deg - turn + 180) % 360 - 180 == pytest.approx(3.0, abs=4.0)
    assert np.linalg.norm(face.landmarks[:2] - apply(onto, EYES), axis=1).max() < 0.04 * SIDE


@pytest.mark.parametrize("scale", [0.35, 2.5])
def test_size_follows_the_picture(detector, astronaut, scale):
    side = round(512 * scale)
    face = detector.detect(cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA))[0]
    assert face.size == pytest.approx(SIDE * scale, rel=0.1)


def test_a_small_face_in_a_large_picture_is_found(detector, astronaut):
    picture = np.full((1200, 1600, 3), 120, np.uint8)
    picture[700:956, 1200:1456] = cv2.resize(astronaut, (256, 256), interpolation=cv2.INTER_AREA)
    faces = detector.detect(picture)
    assert len(faces) == 1
    assert np.linalg.norm(np.array(faces[0].center) - (CENTER / 2 + [1200, 700])) < 5


def test_a_profile_is_found_and_says_so(detector):
    faces = detector.detect(np.repeat(skimage.data.camera()[..., None], 3, 2))
    assert len(faces) == 1
    assert faces[0].yaw_hint > 40  # the cameraman looks to the right
    assert faces[0].landmarks is None


@pytest.mark.parametrize("name", ["coffee", "rocket", "chelsea", "moon", "text", "grass"])
def test_pictures_without_faces_have_none(detector, name):
    picture = getattr(skimage.data, name)()
    assert detector.detect(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)) == []


@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (64, 64)])
def test_empty_and_tiny_pictures_have_none(detector, shape):
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []
    assert detector.detect(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)) == []


def test_threads_agree(detector, astronaut):
    with ThreadPoolExecutor(4) as pool:
        detections = list(pool.map(lambda _: detector.detect(astronaut)[0], range(8)))
    assert all(
        f.box == detections[0].box and np.array_equal(f.landmarks, detections[0].landmarks, equal_nan=True)
        for f in detections
    )
