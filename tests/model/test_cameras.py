"""Cameras stand where their angles say, and poses are cameras."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headlift.errors import InvalidCameraError
from headlift.model.cameras import (
    FRONTAL_POSE,
    cameras_from_pose,
    look_at,
    orbit_camera,
    orbit_cameras,
    pose_from_cameras,
    project,
)
from headlift.model.types import DISTANCE, HEAD_CENTER, Cameras

ANGLES = st.floats(-180, 180)


def eye(cameras: Cameras) -> torch.Tensor:
    R, t = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3:]
    return -(R.mT @ t)[..., 0]


@given(yaw=ANGLES, pitch=st.floats(-90, 90), roll=ANGLES, distance=st.floats(0.3, 5))
@settings(max_examples=25, deadline=None)
def test_orbit_camera_is_a_rigid_camera_that_sees_the_head_centre_in_the_middle(
    yaw: float, pitch: float, roll: float, distance: float
) -> None:
    cameras = orbit_cameras([yaw], pitch, rolls=roll, distance_m=distance, width=300, height=200)
    R = cameras.viewmats[0, :3, :3]
    torch.testing.assert_close(R @ R.T, torch.eye(3), atol=1e-5, rtol=0)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-5)
    uv, depth = project(cameras, torch.tensor([[HEAD_CENTER]]))
    torch.testing.assert_close(uv, torch.full((1, 1, 2), 0.5), atol=1e-5, rtol=0)
    assert float(depth) == pytest.approx(distance, rel=1e-5)


@pytest.mark.parametrize(
    ("yaw", "pitch", "where"), [(0, 0, (0, 0, 1)), (90, 0, (1, 0, 0)), (180, 0, (0, 0, -1)), (0, 90, (0, 1, 0))]
)
def test_positive_yaw_goes_to_the_heads_left_and_positive_pitch_up(
    yaw: float, pitch: float, where: tuple[float, float, float]
) -> None:
    expected = torch.tensor([HEAD_CENTER]) + DISTANCE * torch.tensor([where])
    torch.testing.assert_close(eye(orbit_camera(yaw, pitch)), expected, atol=1e-5, rtol=0)


def test_front_camera_shows_the_heads_left_at_the_right_and_up_at_the_top() -> None:
    left_and_top = torch.tensor([[[0.05, 0.01, 0.0], [0.0, 0.06, 0.0]]])
    (left, top) = project(orbit_camera(0), left_and_top)[0][0]
    assert left[0] > 0.5
    assert left[1] == pytest.approx(0.5, abs=1e-5)
    assert top[1] < 0.5


def test_positive_roll_leans_the_head_counter_clockwise_in_the_picture() -> None:
    top = project(orbit_camera(0, roll_deg=20), torch.tensor([[[0.0, 0.1, 0.0]]]))[0][0, 0]
    assert top[0] < 0.5


def test_field_of_view_is_the_angle_across_the_shorter_side() -> None:
    cameras = orbit_cameras([0], fov_deg=90, distance_m=1.0, width=400, height=200)
    edge = torch.tensor([[[0.0, HEAD_CENTER[1] + 1.0, 0.0]]])
    torch.testing.assert_close(project(cameras, edge)[0], torch.tensor([[[0.5, 0.0]]]), atol=1e-5, rtol=0)


@given(yaw=ANGLES, pitch=st.floats(-89, 89))
@settings(max_examples=25, deadline=None)
def test_looking_from_where_an_orbit_camera_stands_gives_that_camera(yaw: float, pitch: float) -> None:
    orbit = orbit_camera(yaw, pitch)
    torch.testing.assert_close(look_at(eye(orbit)).viewmats, orbit.viewmats, atol=1e-4, rtol=0)


@given(
    yaw=ANGLES,
    pitch=st.floats(-80, 80),
    roll=ANGLES,
    distance=st.floats(1, 3),
    x=st.floats(-0.1, 0.1),
    y=st.floats(-0.1, 0.1),
)
@settings(max_examples=25, deadline=None)
def test_a_camera_becomes_a_pose_and_the_same_camera_again(
    yaw: float, pitch: float, roll: float, distance: float, x: float, y: float
) -> None:
    orbit = orbit_cameras([yaw], pitch, rolls=roll, distance_m=distance, center=(x, y, 0.02), width=504, height=504)
    orbit = orbit.to(dtype=torch.float64)
    again = cameras_from_pose(pose_from_cameras(orbit), 504)
    torch.testing.assert_close(again.viewmats, orbit.viewmats, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.Ks, orbit.Ks, atol=0, rtol=1e-6)


def test_frontal_pose_is_the_front_camera_and_its_first_numbers_read_in_picture_widths() -> None:
    pose = torch.tensor([FRONTAL_POSE, (*FRONTAL_POSE[:6], 0.1, -0.2, math.log(2))])
    cameras = cameras_from_pose(pose, 100)
    torch.testing.assert_close(cameras[0].viewmats, orbit_camera(0).viewmats, atol=1e-5, rtol=0)
    uv, _ = project(cameras[1], torch.tensor([[HEAD_CENTER]]))
    torch.testing.assert_close(uv[0, 0], torch.tensor([0.6, 0.3]), atol=1e-5, rtol=0)
    assert float((eye(cameras)[1] - torch.tensor(HEAD_CENTER)).norm()) == pytest.approx(2 * DISTANCE, rel=1e-5)


def test_any_nine_numbers_give_a_rotation_and_gradients() -> None:
    pose = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cameras = cameras_from_pose(pose, 64).validate()
    R = cameras.viewmats[:, :3, :3]
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5, rtol=0)
    cameras.viewmats.square().sum().backward()
    assert pose.grad is not None
    assert torch.isfinite(pose.grad).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"yaws": [0, 10], "pitches": [0]},
        {"yaws": [math.nan]},
        {"yaws": [0], "distance_m": 0},
        {"yaws": [0], "fov_deg": 180},
        {"yaws": [0], "width": 0},
    ],
)
def test_impossible_cameras_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidCameraError):
        orbit_cameras(**bad)  # type: ignore[arg-type]


def test_no_cameras_are_no_cameras() -> None:
    assert len(orbit_cameras([])) == 0
