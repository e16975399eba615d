"""Cameras: conventions of the project."""

import numpy as np
import pytest

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift_trainer.synthetic.views import RANDOM_VIEWS, RIG_DEG, orbit_view, random_views, rig_views


def project(view, point):
    local = view.viewmat[:3, :3] @ np.asarray(point, np.float32) + view.viewmat[:3, 3]
    flat = view.K @ local
    return flat[:2] / flat[2], local[2]


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (45, 10, 0), (-90, -20, 5), (180, 60, -12)])
def test_the_head_center_is_in_the_middle_at_its_distance(yaw, pitch, roll):
    view = orbit_view(yaw, pitch, 256, roll_deg=roll)
    pixel, depth = project(view, HEAD_CENTER)
    assert np.allclose(pixel, 128, atol=1e-2)
    assert depth == pytest.approx(DISTANCE, rel=1e-5)
    assert np.linalg.det(view.viewmat[:3, :3]) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(view.center - np.array(HEAD_CENTER)) == pytest.approx(DISTANCE, rel=1e-5)


def test_the_front_camera_sees_left_on_the_right_and_up_on_top():
    view = orbit_view(0, 0, 256)
    assert view.center[2] > 1
    assert project(view, (0.05, HEAD_CENTER[1], 0))[0][0] > 128
    assert project(view, (0, HEAD_CENTER[1] + 0.05, 0))[0][1] < 128
    window = project(view, (0.2, HEAD_CENTER[1], 0))[0][0] - 128
    assert window == pytest.approx(FOCAL * 256 * 0.2 / DISTANCE, rel=1e-4)


def test_positive_yaw_goes_to_the_heads_left_and_positive_pitch_up():
    assert orbit_view(40, 0, 64).center[0] > 0.5
    assert orbit_view(0, 40, 64).center[1] > 0.5


def test_positive_roll_turns_the_picture_clockwise():
    pixel, _ = project(orbit_view(0, 0, 256, roll_deg=20), (0, HEAD_CENTER[1] + 0.1, 0))
    assert pixel[0] > 128 + 5


def test_a_shift_moves_the_head_in_the_picture():
    pixel, _ = project(orbit_view(0, 0, 100, shift=(0.1, -0.05)), HEAD_CENTER)
    assert np.allclose(pixel, [60, 45], atol=1e-3)


def test_the_rig_is_fixed_and_random_views_stay_in_their_bounds():
    assert len(rig_views(64)) == len(RIG_DEG) == 8
    for seed in range(20):
        views = random_views(np.random.default_rng(seed), 256)
        assert len(views) == RANDOM_VIEWS == 6
        for view in views:
            assert view.K[0, 0] == pytest.approx(FOCAL * 256)
            assert np.abs(view.K[:2, 2] / 256 - 0.5).max() <= 0.06 + 1e-6
            distance = np.linalg.norm(view.center - np.array(HEAD_CENTER))
            assert 0.85 * DISTANCE - 1e-4 <= distance <= 1.2 * DISTANCE + 1e-4
        assert 35 <= np.degrees(np.arcsin((views[-1].center[1] - HEAD_CENTER[1]) / distance)) <= 60.01
