"""The learned matter keeps hair and clothes, and is the classical one where HeadNet sees no head."""

from __future__ import annotations

import numpy as np
import pytest

from headlift.model.passes import counted_passes
from headlift.stages.preprocess.geometry.crop import crop_from_face, face_box_in_crop
from headlift.stages.preprocess.geometry.resample import apply, similarity, warp
from headlift.stages.preprocess.interfaces import Face, HeadMaps, Matter
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter
from headlift.stages.preprocess.matte.headnet import HeadNetMatter

SIDE = 256
BOX = face_box_in_crop(SIDE)


@pytest.fixture(scope="module")
def matter(headnet):
    return HeadNetMatter(headnet)


@pytest.fixture(scope="module")
def crop(astronaut, astronaut_frame):
    return warp(astronaut, np.diag([SIDE, SIDE]) @ astronaut_frame, (SIDE, SIDE), replicate=True)


def test_face_hair_and_black_clothes_stay_and_the_wall_goes(matter, crop):
    assert isinstance(matter, Matter)
    alpha = matter.matte(crop, BOX)
    assert alpha.shape == (SIDE, SIDE)
    assert alpha.dtype == np.float32
    assert 0 <= alpha.min() <= alpha.max() <= 1
    assert alpha[90:160, 105:150].min() > 0.99
    assert alpha[235:, 110:146].mean() > 0.95
    assert alpha[:100, :30].max() < 0.05
    assert alpha[:100, -30:].max() < 0.05


def test_the_same_picture_gives_the_same_matte(matter, crop):
    assert np.array_equal(matter.matte(crop, BOX), matter.matte(crop, BOX))


def test_without_a_head_it_is_the_classical_matte(matter, headless):
    picture = np.ascontiguousarray(headless["noise"][:SIDE, :SIDE])
    assert np.array_equal(matter.matte(picture, BOX), GrabCutMatter().matte(picture, BOX))


def test_a_head_from_behind_is_cut_out(matter, from_behind_matte):
    picture, true = from_behind_matte
    side = len(picture)
    learned = np.abs(matter.matte(picture, face_box_in_crop(side)) - true).mean()
    assert learned < 0.06
    assert learned < np.abs(GrabCutMatter().matte(picture, face_box_in_crop(side)) - true).mean() + 0.01


def test_the_detectors_maps_save_a_second_pass(matter, headnet, crop):
    (detection,) = headnet.detect(crop, [crop_from_face(Face(BOX, 1.0), 1)])
    with counted_passes() as passes:
        alpha = matter.matte(crop, BOX, HeadMaps(detection.frame, detection.alpha))
    assert "headnet" not in passes
    assert np.array_equal(alpha, matter.matte(crop, BOX))


def test_maps_follow_the_pixels_that_they_are_of():
    maps = HeadMaps(np.array([[0.01, 0.0, 0.1], [0.0, 0.01, 0.2]]), np.zeros((4, 4), np.float32))
    onto = similarity((30.0, 20.0), (5.0, 7.0), scale=2.0, turn_deg=30.0)
    place = np.array([[12.0, 34.0]])
    assert np.allclose(apply(maps.moved(onto).frame, apply(onto, place)), apply(maps.frame, place))
