"""A crop corrected by its camera shows the portrait window."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER, Cameras
from headlift.stages.preprocess.geometry.correction import correct_crop
from headlift.stages.preprocess.geometry.resample import apply

SIZE = 256


def camera(yaw: float, pitch: float, roll: float, distance: float, aside: tuple[float, float]) -> Cameras:
    """A camera around the head; ``aside`` moves the head off the optical axis, metres; all angles in degrees."""

    def turn(axis: int, degrees: float) -> np.ndarray:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
        return matrix

    rotation = turn(2, roll) @ np.diag([1.0, -1.0, -1.0]) @ turn(0, pitch) @ turn(1, -yaw)
    view = np.eye(4)
    view[:3, :3] = rotation
    view[:3, 3] = np.array([*aside, distance]) - rotation @ np.array(HEAD_CENTER)
    intrinsics = np.array([[FOCAL * SIZE, 0, SIZE / 2], [0, FOCAL * SIZE, SIZE / 2], [0, 0, 1.0]])
    return Cameras(torch.from_numpy(view)[None], torch.from_numpy(intrinsics)[None], SIZE, SIZE).validate()


def seen(cameras: Cameras, point: np.ndarray) -> np.ndarray:
    view, intrinsics = cameras.viewmats[0].numpy(), cameras.Ks[0].numpy()
    p = intrinsics @ (view[:3, :3] @ point + view[:3, 3])
    return p[:2] / p[2]


@given(
    st.floats(-60, 60),
    st.floats(-30, 30),
    st.floats(-40, 40),
    st.floats(1.2, 2.5),
    st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
)
def test_the_corrected_crop_is_centred_upright_and_of_the_right_size(yaw, pitch, roll, distance, aside):
    taken = camera(yaw, pitch, roll, distance, aside)
    correction = correct_crop(taken)
    center = apply(correction.matrix, seen(taken, np.array(HEAD_CENTER)))
    assert np.allclose(center, SIZE / 2, atol=1e-6)
    assert math.isclose(correction.scale, distance / DISTANCE, rel_tol=1e-6)
    # perspective bends the projected axis a little when the head stands aside, so the axis itself is compared
    up = taken.viewmats[0, :2, 1].numpy()
    turned = correction.matrix[:, :2] @ up
    assert abs(math.degrees(math.atan2(turned[0], -turned[1]))) < 1e-6


def test_implausible_corrections_are_marked():
    assert not correct_crop(camera(20, 5, 3, DISTANCE, (0, 0))).is_implausible
    for wild in (
        camera(0, 0, 0, DISTANCE * 1.7, (0, 0)),
        camera(0, 0, 0, DISTANCE / 1.7, (0, 0)),
        camera(0, 0, 60, DISTANCE, (0, 0)),
        camera(0, 0, 0, DISTANCE, (0.2, 0.0)),
        camera(0, 0, 0, -1.0, (0, 0)),
    ):
        assert correct_crop(wild).is_implausible
