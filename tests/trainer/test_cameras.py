"""Cameras of the portrait crop, and where they see points."""

from __future__ import annotations

import torch

from headlift.model.cameras import orbit_cameras
from headlift.model.types import HEAD_CENTER
from headlift_trainer.cameras import crop_cameras, project_to_crop


def test_crop_cameras_are_the_orbits_own() -> None:
    expected = orbit_cameras([0.0, 40.0, -170.0], width=96, height=96)
    found = crop_cameras(expected.viewmats, 96)
    assert torch.equal(found.Ks, expected.Ks)
    assert (found.width, found.height) == (96, 96)


def test_points_lie_where_the_cameras_see_them() -> None:
    cameras = orbit_cameras([0.0, 70.0], width=64, height=64)
    points = torch.tensor(HEAD_CENTER) + 0.1 * torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
    local = points @ cameras.viewmats[:, :3, :3].mT + cameras.viewmats[:, None, :3, 3]
    pixels = local @ cameras.Ks.mT
    torch.testing.assert_close(project_to_crop(points, cameras.viewmats), pixels[..., :2] / pixels[..., 2:] / 64)
