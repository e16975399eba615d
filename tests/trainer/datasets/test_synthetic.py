"""Generated heads whose cameras have focal lengths of their own are read for what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.model.types import HEAD_CENTER
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.generated import GeneratedHeads, load_views
from headlift_trainer.datasets.synthetic import HeadBatch, augmented
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.render.views import RIG_DEG, preset_views

SIZE, SEED = 64, 80_100


def write(folder: Path, *, random_focal: bool) -> Path:
    views = preset_views("rig", np.random.default_rng(4), SIZE, random_focal=random_focal)
    np.savez(
        path_of(folder, SEED, 0),
        rgba=np.random.default_rng(0).integers(0, 255, (len(views), SIZE, SIZE, 4)).astype(np.uint8),
        viewmats=np.stack([view.viewmat for view in views]).astype(np.float32),
        Ks=np.stack([view.K for view in views]).astype(np.float32),
    )
    return folder


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    return write(tmp_path, random_focal=True)


def pixels(viewmats: torch.Tensor, Ks: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    local = points @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]
    flat = local @ Ks.mT
    return flat[..., :2] / flat[..., 2:]


def test_rig_views_are_exact_and_the_others_are_known_not_to_be(varied: Path) -> None:
    assert load_views(varied, SEED, 0).exact.tolist() == [True] * len(RIG_DEG) + [False] * 6


def test_without_random_focal_lengths_every_view_is_exact(tmp_path: Path) -> None:
    head = load_views(write(tmp_path, random_focal=False), SEED, 0)
    assert head.exact.all()
    assert torch.equal(head.cameras.viewmats, torch.from_numpy(head.viewmats))


def test_splatting_cameras_put_points_where_the_pictures_were_drawn(varied: Path) -> None:
    head = load_views(varied, SEED, 0)
    points = torch.tensor(HEAD_CENTER) + 0.1 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    drawn = pixels(torch.from_numpy(head.true_viewmats), torch.from_numpy(head.Ks), points)
    assert torch.allclose(pixels(head.cameras.viewmats, head.cameras.Ks, points), drawn, atol=0.02)


def test_the_crops_camera_shows_the_middle_of_the_head_as_the_picture_does(varied: Path) -> None:
    head = load_views(varied, SEED, 0)
    right = torch.from_numpy(head.true_viewmats[:, 0, :3])
    for across in (-0.05, 0.0, 0.05):
        points = torch.tensor(HEAD_CENTER) + across * right[:, None]
        drawn = pixels(torch.from_numpy(head.true_viewmats), torch.from_numpy(head.Ks), points)
        crop = crop_cameras(torch.from_numpy(head.viewmats), SIZE)
        # A shift of the picture is a turn of the camera to first order only.
        assert torch.allclose(pixels(crop.viewmats, crop.Ks, points), drawn, atol=0.6)


def test_samples_are_splatted_with_the_true_cameras(varied: Path) -> None:
    head = load_views(varied, SEED, 0)
    known = {matrix.tobytes() for matrix in head.cameras.Ks.numpy()}
    sample = GeneratedHeads(varied).sample(0, np.random.default_rng(0), 13)
    assert {matrix.tobytes() for matrix in sample.target_cameras.Ks.numpy()} == known
    assert len(sample.target_cameras) == 14
    assert torch.equal(sample.camera.Ks, crop_cameras(sample.camera.viewmats, SIZE).Ks)


def test_no_augmentation_changes_nothing_and_a_wild_one_changes_more(varied: Path) -> None:
    rgba = torch.rand(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rgba[:, 3] = 1
    viewmats = crop_cameras(torch.from_numpy(load_views(varied, SEED, 0).viewmats[:2]), SIZE).viewmats
    batch = HeadBatch(rgba, viewmats, torch.zeros(2, 5, 3), torch.full((2, 5, 3), 0.5), torch.ones(2, 5))
    assert augmented(batch, torch.Generator().manual_seed(0), "none") is batch
    standard = augmented(batch, torch.Generator().manual_seed(0))
    wild = augmented(batch, torch.Generator().manual_seed(0), "wild")
    assert torch.equal(standard.viewmats, wild.viewmats)  # the same crop, with the same camera
    assert torch.equal(standard.colors, wild.colors)
    assert not torch.equal(standard.picture, wild.picture)
