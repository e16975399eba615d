"""Seeds from a segmentation of people, in HeadNet's place."""

from __future__ import annotations

import numpy as np
import pytest

from headlift.stages.preprocess.geometry.crop import face_box_in_crop
from headlift.stages.preprocess.geometry.resample import warp
from headlift.stages.preprocess.interfaces import Matter
from headlift.stages.preprocess.matte.headnet import HeadNetMatter
from headlift.stages.preprocess.matte.selfie import SelfieMatter

SIDE = 256
BOX = face_box_in_crop(SIDE)


@pytest.fixture(scope="module")
def otherwise(headnet):
    return HeadNetMatter(headnet)


@pytest.fixture(scope="module")
def crop(astronaut, astronaut_frame):
    return warp(astronaut, np.diag([SIDE, SIDE]) @ astronaut_frame, (SIDE, SIDE), replicate=True)


def test_a_coarse_segmentation_becomes_an_exact_matte(otherwise, crop):
    exact = otherwise.matte(crop, BOX)
    coarse = exact.reshape(16, 16, 16, 16).mean((1, 3)).astype(np.float32)
    matter = SelfieMatter(lambda rgb: coarse, otherwise)
    assert isinstance(matter, Matter)
    alpha = matter.matte(crop, BOX)
    assert alpha.shape == exact.shape
    assert alpha.dtype == np.float32
    assert np.abs(alpha - exact).mean() < 0.03
    assert np.abs(alpha - exact).mean() < 0.5 * np.abs(coarse.repeat(16, 0).repeat(16, 1) - exact).mean()


def test_where_it_sees_nobody_the_other_matter_answers(otherwise, crop):
    matter = SelfieMatter(lambda rgb: np.zeros((SIDE, SIDE), np.float32), otherwise)
    assert np.array_equal(matter.matte(crop, BOX), otherwise.matte(crop, BOX))
