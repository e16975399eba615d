"""The portrait crop is the picture that the camera of types.py takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift.stages.preprocess.geometry.crop import (
    BOX_CENTER,
    EYE,
    EYES_IN_CROP,
    crop_from_face,
    face_box_in_crop,
    face_in_frame,
    project_frontal,
)
from headlift.stages.preprocess.geometry.resample import apply, scale_of, similarity
from headlift.stages.preprocess.interfaces import Face


@given(st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)))
def test_projection_is_that_of_the_opencv_camera(point):
    rotation = np.diag([1.0, -1.0, -1.0])
    position = np.add(HEAD_CENTER, (0, 0, DISTANCE))
    seen = np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]]) @ (rotation @ (np.array(point) - position))
    assert np.allclose(seen[:2] / seen[2], project_frontal(point))


def test_the_window_is_forty_centimetres_wide():
    assert project_frontal((0.2, HEAD_CENTER[1], 0.0))[0] == pytest.approx(1.0, abs=1e-3)


def canonical_face(turn: float, scale: float) -> tuple[Face, np.ndarray]:
    """A face as a frontal canonical head gives it in some picture, and the map from its ideal crop to the picture."""
    onto = similarity((50, 50), (700, 400), scale=scale, turn_deg=turn)
    x0, y0, x1, y1 = face_box_in_crop(100)
    cx, cy = apply(onto, ((x0 + x1) / 2, (y0 + y1) / 2))
    half = (x1 - x0) / 2 * scale
    landmarks = np.full((5, 2), np.nan)
    landmarks[:2] = apply(onto, np.array(EYES_IN_CROP) * 100)
    return Face((cx - half, cy - half, cx + half, cy + half), 1.0, landmarks, turn), onto


@given(st.floats(-179, 179), st.floats(0.3, 20), st.booleans())
def test_a_canonical_face_lands_where_the_camera_sees_it(turn, scale, with_eyes):
    face, onto = canonical_face(turn, scale)
    if not with_eyes:
        face = Face(face.box, 1.0, None, turn)
    matrix = crop_from_face(face, 512)
    eyes = apply(matrix, apply(onto, np.array(EYES_IN_CROP) * 100))
    assert np.allclose(eyes, np.array(EYES_IN_CROP) * 512, atol=0.5)
    assert scale_of(matrix) == pytest.approx(512 / 100 / scale, rel=1e-3)


def test_a_turned_face_is_moved_aside_so_that_the_head_is_in_the_middle():
    straight = Face((100, 100, 200, 200), 1.0)
    to_the_right = Face((100, 100, 200, 200), 1.0, yaw_hint=55.0)
    assert apply(crop_from_face(to_the_right, 512), (150, 150))[0] > apply(crop_from_face(straight, 512), (150, 150))[0]


def test_the_box_constants_agree_with_each_other():
    x0, y0, x1, y1 = face_box_in_crop(1.0)
    eyes = np.mean(EYES_IN_CROP, axis=0)
    assert (eyes[1] - y0) / (y1 - y0) == pytest.approx(0.40, abs=0.01)
    assert (x0 + x1) / 2 == pytest.approx(0.5)
    assert BOX_CENTER[2] == EYE[2]


@given(st.floats(-179, 179), st.floats(0.001, 0.1), st.floats(-180, 180))
def test_a_known_crop_becomes_a_face_that_is_cropped_so(turn, scale, yaw):
    frame = similarity((300.0, 200.0), (0.5, 0.5), scale=scale, turn_deg=turn)
    face = face_in_frame(frame, score=0.7, yaw_deg=yaw)
    assert np.allclose(crop_from_face(face, 100), np.diag([100, 100]) @ frame)
    assert np.allclose(
        crop_from_face(replace(face, frame=None), 100), np.diag([100, 100]) @ frame, rtol=1e-6, atol=1e-6
    )
    bigger = face.scaled(2.0)
    assert np.allclose(crop_from_face(bigger, 100), crop_from_face(replace(bigger, frame=None), 100), atol=1e-6)
