from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headlift.errors import InvalidCameraError
from headlift.model.cameras import orbit_camera
from headlift.model.types import DISTANCE, FOCAL
from headlift_trainer.datasets.cropping import as_cameras, crop, crop_camera, face_box


@pytest.mark.parametrize("yaw", [0, 65, -95])
@pytest.mark.parametrize("distance", [0.8, DISTANCE, 2.5])
@pytest.mark.parametrize("size", [128, 256])
def test_dots_lie_where_the_camera_projects_them(dots: SimpleNamespace, yaw: float, distance: float, size: int) -> None:
    viewmat = dots.camera_at(yaw, 12, distance, turn_deg=(2, -3, 25))
    K = np.array([[1500.0 * distance, 0, 420], [0, 1480.0 * distance, 390], [0, 0, 1]])
    picture = dots.dotted(dots.projected(dots.DOTS, viewmat, K), 900, 800, 9)
    rgba, turned, crop_K = crop(picture, None, viewmat, K, size)
    error = dots.worst_error(rgba, as_cameras(turned[None], crop_K[None], size))
    assert error < 0.35


def test_a_picture_of_the_portrait_camera_itself_stays_as_it_is() -> None:
    camera = orbit_camera(30.0, 10.0, size=96)
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    rgba, viewmat, K = crop(picture, None, camera.viewmats[0].double().numpy(), camera.Ks[0].double().numpy(), 96)
    assert np.abs(viewmat - camera.viewmats[0].numpy()).max() < 1e-6
    assert K[0, 0] == pytest.approx(FOCAL * 96, rel=1e-6)
    assert (rgba[:3].permute(1, 2, 0) * 255 - torch.from_numpy(picture).float())[2:-2, 2:-2].abs().max() < 1.0


def test_the_window_at_the_head_is_the_portrait_crops_at_any_distance(dots: SimpleNamespace) -> None:
    for distance in (0.5, 1.0, 4.0):
        _, K = crop_camera(dots.camera_at(20, 0, distance), 512)
        assert 512 / K[0, 0] * distance == pytest.approx(DISTANCE / FOCAL)


def test_alpha_is_zero_where_the_picture_does_not_reach_and_colours_are_premultiplied(dots: SimpleNamespace) -> None:
    viewmat = dots.camera_at(0, 0, 1.0)
    K = np.array([[1000.0, 0, 10], [0, 1000, 200], [0, 0, 1]])  # the head is at the left border
    rgba, _, _ = crop(np.full((400, 400, 3), 255, np.uint8), np.full((400, 400), 0.5, np.float32), viewmat, K, 128)
    assert rgba[3, :, :50].max() == 0
    assert rgba[3, 40:90, 90:].mean() == pytest.approx(0.5, abs=0.01)
    assert torch.allclose(rgba[:3], rgba[3:].expand(3, -1, -1), atol=1e-3)


def test_a_shrunk_checkerboard_becomes_grey_and_does_not_alias(dots: SimpleNamespace) -> None:
    viewmat, K = dots.camera_at(0, 0, DISTANCE), np.array([[8192.0, 0, 1000], [0, 8192, 1000], [0, 0, 1]])
    y, x = np.mgrid[:2000, :2000]
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, 2)
    rgba, _, _ = crop(board, None, viewmat, K, 64)
    assert rgba[:3, 4:-4, 4:-4].std() < 0.03


def test_a_wrong_unit_is_told(dots: SimpleNamespace) -> None:
    with pytest.raises(InvalidCameraError, match="unit"):
        crop_camera(dots.camera_at(0, 0, 1100.0), 128)
    away = dots.camera_at(0, 0, 1.0)
    away[:3] = np.diag([-1.0, 1.0, -1.0]) @ away[:3]
    with pytest.raises(InvalidCameraError, match="look"):
        crop_camera(away, 128)


def test_the_face_box_is_the_one_that_preprocessing_uses() -> None:
    from headlift.stages.preprocess.geometry.crop import face_box_in_crop

    assert np.allclose(face_box(512), face_box_in_crop(512), atol=0.5)
