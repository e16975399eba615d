"""Cameras: conventions of the project."""

import numpy as np
import pytest

from headlift.errors import InvalidInputError
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift_trainer.synthetic.render.views import (
    RANDOM_VIEWS,
    RIG_DEG,
    View,
    orbit_view,
    portrait_viewmats,
    preset_views,
    random_views,
    rig_views,
)


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


@pytest.mark.parametrize(
    ("preset", "count"), [("nersemble", 16), ("cafca", 30), ("idts", 96), ("rig", len(RIG_DEG) + RANDOM_VIEWS)]
)
def test_every_preset_has_its_views_and_all_see_the_head(preset, count):
    views = preset_views(preset, np.random.default_rng(0), 64)
    assert len(views) == count
    for view in views:
        pixel, depth = project(view, HEAD_CENTER)
        assert np.abs(pixel - 32).max() < 0.07 * 64
        assert depth > 0.5
    assert len({view.viewmat.tobytes() for view in views}) == count


def test_data_sets_presets_look_from_where_their_cameras_stand():
    def degrees(preset):
        centers = np.array([view.center for view in preset_views(preset, np.random.default_rng(0), 64)])
        off = centers - np.array(HEAD_CENTER)
        return np.degrees(np.arctan2(off[:, 0], off[:, 2])), np.degrees(np.arcsin(off[:, 1] / DISTANCE))

    assert np.abs(degrees("nersemble")[0]).max() < 71  # before the face
    assert np.abs(degrees("cafca")[0]).max() > 160  # all around
    yaw, pitch = degrees("idts")
    assert len(np.unique(pitch.round(3))) == 6
    assert np.unique(yaw.round(2) % 360).size == 16


def test_random_focal_lengths_change_perspective_and_nothing_else():
    plain = random_views(np.random.default_rng(3), 256)
    varied = random_views(np.random.default_rng(3), 256, random_focal=True)
    assert len({round(float(view.K[0, 0]), 3) for view in varied}) == len(varied)
    for one, other in zip(plain, varied, strict=True):
        assert np.allclose(project(one, HEAD_CENTER)[0], project(other, HEAD_CENTER)[0], atol=1e-2)
        away = np.array(HEAD_CENTER) + one.viewmat[0, :3] * 0.05  # to the side, at the middle's depth
        assert np.allclose(project(one, away)[0], project(other, away)[0], atol=1e-2)


def test_a_camera_of_another_focal_length_becomes_the_crops_with_the_middle_as_large():
    views = random_views(np.random.default_rng(5), 256, random_focal=True)
    viewmats, Ks = np.stack([view.viewmat for view in views]), np.stack([view.K for view in views])
    moved = portrait_viewmats(viewmats, Ks, 256)
    crop = np.array([[FOCAL * 256, 0, 128], [0, FOCAL * 256, 128], [0, 0, 1]], np.float32)
    for view, matrix in zip(views, moved, strict=True):
        beside = np.array(HEAD_CENTER) + view.viewmat[0, :3] * 0.06
        (near, _), (far, _) = project(view, HEAD_CENTER), project(view, beside)
        (ours, _), (ours_far, _) = (project(View(matrix, crop), point) for point in (HEAD_CENTER, beside))
        assert np.allclose(ours_far - ours, far - near, atol=0.02)
    same = random_views(np.random.default_rng(5), 256)
    kept = np.stack([view.viewmat for view in same])
    assert np.array_equal(portrait_viewmats(kept, np.stack([view.K for view in same]), 256), kept)


def test_an_unknown_preset_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="nersemble"):
        preset_views("panorama", np.random.default_rng(0), 64)
