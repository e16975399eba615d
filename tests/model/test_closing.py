"""Heads without holes."""

import pytest
import torch
from scipy.spatial import cKDTree

from headlift.model.cameras import orbit_camera
from headlift.model.closing import closed
from headlift.model.decoder import quats_from_normals
from headlift.model.splat import rasterize
from headlift.model.types import HEAD_CENTER, Gaussians

COUNT = 3000


@pytest.fixture(scope="module")
def ball():
    """Normals of a ball and the eight nearest neighbours of each of its points."""
    normals = torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    return normals, torch.from_numpy(cKDTree(normals.numpy()).query(normals.numpy(), k=9)[1][:, 1:])


def head(normals: torch.Tensor, radius: float) -> Gaussians:
    """Discs on the ball: white in front, black behind."""
    scales = radius * torch.tensor([1.0, 1.0, 0.2]).expand(COUNT, 3)
    colors = (normals[:, 2:] > 0).float().expand(-1, 3)
    means = torch.tensor(HEAD_CENTER) + 0.1 * normals
    return Gaussians(means, quats_from_normals(normals), scales, torch.full((COUNT,), 0.95), colors)


def test_the_back_no_longer_shows_through_the_face(ball):
    def darkest(shown: Gaussians) -> float:
        views = rasterize(shown, orbit_camera(0, size=96), backend="reference")
        return float(views.rgb[0, 0, 40:56, 40:56].min())

    holey = head(ball[0], 0.001)
    assert darkest(holey) < 0.2
    assert darkest(closed(holey, ball[1], 0.8)) > 0.6


def test_wide_discs_thicknesses_and_everything_else_stay(ball):
    wide = head(ball[0], 0.05)
    assert torch.equal(closed(wide, ball[1], 0.5).scales, wide.scales)
    narrow = head(ball[0], 0.0005)
    made = closed(narrow, ball[1], 0.5)
    assert torch.equal(made.scales[:, 2], narrow.scales[:, 2])
    assert (made.scales[:, :2] > 2 * narrow.scales[:, :2]).float().mean() > 0.9
    for name in ("means", "quats", "opacities", "colors"):
        assert torch.equal(getattr(made, name), getattr(narrow, name))
