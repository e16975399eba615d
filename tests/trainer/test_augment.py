"""Augmentations change pictures and cameras together, and stay in range."""

import pytest
import torch

from headlift.model.cameras import orbit_cameras, project
from headlift.model.types import FOCAL
from headlift_trainer import augment
from headlift_trainer.cameras import crop_cameras

SIZE = 256


def dots(places: torch.Tensor) -> torch.Tensor:
    """A premultiplied picture [1, 4, S, S] with one soft dot at each place [n, 2] in pixels."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    alpha = torch.zeros(SIZE, SIZE)
    for px, py in places:
        alpha = torch.maximum(alpha, torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8))
    return alpha.expand(1, 4, SIZE, SIZE).clone()


@pytest.mark.parametrize("seed", range(6))
def test_a_jittered_camera_projects_a_point_where_the_jittered_picture_shows_it(seed: int) -> None:
    camera = orbit_cameras([20.0], 5.0, width=SIZE, height=SIZE)
    point = torch.tensor([[[0.02, 0.03, 0.06]]])
    uv, _ = project(camera, point)
    jitter = augment.sample_crop_jitter(1, torch.Generator().manual_seed(seed), FOCAL, turn=6, zoom=0.08, shift=0.04)
    picture, viewmats = augment.apply_crop_jitter(dots(uv[0] * SIZE), camera.viewmats, jitter)
    expected = project(crop_cameras(viewmats, SIZE), point)[0][0, 0] * SIZE
    peak = picture[0, 3].flatten().argmax()
    shown = torch.stack([peak % SIZE, peak // SIZE]) + 0.5
    assert (shown - expected).norm() < 2.0  # a shift of the picture is a turn of the camera to first order only


def test_a_jittered_camera_is_still_a_rotation() -> None:
    camera = orbit_cameras([-50.0, 10.0], [0.0, 30.0], width=SIZE, height=SIZE)
    jitter = augment.sample_crop_jitter(2, torch.Generator().manual_seed(3), FOCAL)
    _, viewmats = augment.apply_crop_jitter(torch.zeros(2, 4, SIZE, SIZE), camera.viewmats, jitter)
    rotation = viewmats[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(2), atol=1e-5)


def test_spoiled_pictures_stay_premultiplied_and_in_range() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha = dots(torch.tensor([[100.0, 120.0]]))[:, 3:].expand(3, 1, SIZE, SIZE)
    for _ in range(8):
        rgba = torch.cat([torch.rand(3, 3, SIZE, SIZE, generator=generator) * alpha, alpha], 1)
        out = augment.degrade_image(augment.degrade_matte(rgba, generator), generator)
        assert out.shape == rgba.shape
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1
        assert bool((out[:, :3] <= out[:, 3:] + 1e-6).all())


def test_a_color_shift_without_change_is_the_identity() -> None:
    one, zero = torch.ones(2, 1), torch.zeros(2, 1)
    colors = torch.rand(2, 7, 3) * 0.9 + 0.05
    assert torch.allclose(augment.ColorShift(torch.ones(2, 3), one, one, zero)(colors), colors, atol=1e-5)


def test_a_color_shift_is_the_same_for_pictures_and_anchors() -> None:
    shift = augment.sample_color_shift(2, torch.Generator().manual_seed(1))
    colors = torch.rand(2, 4, 5, 3)
    assert torch.allclose(shift(colors).flatten(1, 2), shift(colors.flatten(1, 2)))
    assert torch.allclose(shift.repeated(2)(colors.repeat_interleave(2, 0))[1], shift(colors)[0])
