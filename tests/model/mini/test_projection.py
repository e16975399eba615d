"""Patches and Gaussians find themselves in the picture, and know when they are hidden."""

from __future__ import annotations

import pytest
import torch

from headlift.model.cameras import orbit_camera, project
from headlift.model.mini.parsing_groups import ParsingGroup
from headlift.model.mini.projection import ProjectedImage, facing, recolor_trust, sample_maps, z_buffer
from headlift.model.types import HEAD_CENTER, Cameras


def ball(n: int = 20000) -> torch.Tensor:
    gen = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(1, n, 3, generator=gen), dim=-1) * 0.09 + torch.tensor(HEAD_CENTER)


def view(picture: torch.Tensor, camera: Cameras, points: torch.Tensor) -> ProjectedImage:
    """A picture that shows skin everywhere."""
    parsing = torch.zeros(len(picture), len(ParsingGroup), 8, 8)
    parsing[:, ParsingGroup.SKIN] = 1.0
    return ProjectedImage(picture, camera, points, parsing)


def anything(normals: torch.Tensor) -> torch.Tensor:
    """Points that may show whatever there is."""
    return torch.ones(len(normals), len(ParsingGroup))


def test_projection_is_the_cameras_own_formula() -> None:
    camera, points = orbit_camera(30, 10, size=128), ball(50)
    homogeneous = torch.cat([points[0], torch.ones(50, 1)], 1)
    pixels = (camera.Ks[0] @ (camera.viewmats[0] @ homogeneous.T)[:3]).T
    uv, depth = project(camera, points)
    torch.testing.assert_close(uv[0], pixels[:, :2] / pixels[:, 2:] / 128, atol=1e-5, rtol=0)
    torch.testing.assert_close(depth[0], pixels[:, 2], atol=1e-5, rtol=0)


def test_the_near_side_of_a_ball_is_seen_and_the_far_side_is_not() -> None:
    points, camera = ball(), orbit_camera(40, size=64)
    normals = torch.nn.functional.normalize(points[0] - torch.tensor(HEAD_CENTER), dim=-1)
    sample = view(torch.ones(1, 4, 64, 64), camera, points).sample(points, normals, anything(normals))
    towards, seen = sample.facing[0, :, 0], sample.visible[0, :, 0]
    assert (seen[towards > 0.7] > 0.9).float().mean() > 0.99
    assert (seen[towards < -0.3] < 0.1).float().mean() > 0.99
    torch.testing.assert_close(facing(camera, points, normals), sample.facing)


def test_a_surface_that_slopes_away_does_not_hide_itself() -> None:
    """Cheeks: what is compared with the nearest point of a few millimetres around lies far behind it there."""
    flat = torch.cartesian_prod(torch.linspace(-0.05, 0.05, 101), torch.linspace(-0.05, 0.05, 101))
    for tilt in (0.0, 45.0, 60.0, 70.0, 75.0):
        angle = torch.deg2rad(torch.tensor(tilt))
        normal = torch.stack([angle.sin(), torch.zeros(()), angle.cos()])
        points = torch.stack([flat[:, 0] * angle.cos(), flat[:, 1], -flat[:, 0] * angle.sin()], -1)
        points = torch.cat([points, points - torch.tensor([0.0, 0, 0.06])])[None] + torch.tensor(HEAD_CENTER)
        normals = normal.expand(points.shape[1], 3)
        image = view(torch.ones(1, 4, 64, 64), orbit_camera(0, size=64), points)
        before, behind = image.sample(points, normals, anything(normals)).visible[0, :, 0].chunk(2)
        assert float(before.min()) > 0.99, tilt
        assert not behind[flat.abs().amax(1) < 0.04].any(), tilt


def test_a_point_fetches_the_colour_that_the_picture_has_at_its_projection() -> None:
    picture = torch.zeros(1, 4, 64, 64)
    picture[:, 0], picture[:, 3, :, :32], picture[:, 3, :, 32:] = 0.25, 0.5, 1.0
    points = torch.tensor([[[-0.05, 0.01, 0.09], [0.05, 0.01, 0.09]]])  # left and right half of the picture
    normals = torch.tensor([[0.0, 0, 1]]).expand(2, 3)
    sample = view(picture, orbit_camera(0, size=64), points).sample(points, normals, anything(normals))
    torch.testing.assert_close(sample.color[0, :, 0], torch.tensor([0.5, 0.25]))  # alpha is divided out
    torch.testing.assert_close(sample.alpha[0, :, 0], torch.tensor([0.5, 1.0]))
    assert sample.weight[0, :, 0].tolist() == pytest.approx([0.5, 1], abs=1e-3)  # half of it is background


def test_the_mirrored_sample_is_the_sample_of_the_mirrored_point() -> None:
    points, picture = ball(300), torch.rand(1, 4, 64, 64)
    normals = torch.nn.functional.normalize(points[0], dim=-1)
    image = view(picture, orbit_camera(25, size=64), points)
    flip = torch.tensor([-1.0, 1, 1])
    own, mirrored = image.sample_mirrored(points * flip, normals * flip, anything(normals))
    back, again = image.sample_mirrored(points, normals, anything(normals))
    torch.testing.assert_close(own.numbers, again.numbers)
    torch.testing.assert_close(mirrored.numbers, back.numbers)


def test_points_outside_or_behind_are_not_visible_and_break_nothing() -> None:
    points = torch.tensor([[[5.0, 0, 0], [0, 0, 3.0], [0, 0, 0.0]]])
    image = view(torch.ones(1, 4, 32, 32), orbit_camera(0, size=32), points)
    sample = image.sample(points, torch.tensor([[0.0, 0, 1]]).expand(3, 3), torch.ones(3, 6))
    assert sample.weight[0, :, 0].tolist() == pytest.approx([0, 0, 1], abs=1e-3)
    assert torch.isfinite(sample.numbers).all()


def test_z_buffer_keeps_the_nearest_depth_and_spreads_it_by_one_cell() -> None:
    points = torch.tensor([[[0.0, 0.01, 0.05], [0.0, 0.01, -0.05]]])
    depths = z_buffer(orbit_camera(0), points, side=9)
    near = depths < 10
    assert int(near.sum()) == 9
    torch.testing.assert_close(depths[near], torch.full((9,), 1.656), atol=1e-4, rtol=0)


def test_samples_are_pixel_values_at_pixel_centres() -> None:
    maps = torch.rand(1, 2, 4, 4)
    uv = torch.tensor([[[0.5 / 4, 2.5 / 4], [3.5 / 4, 0.5 / 4]]])
    torch.testing.assert_close(sample_maps(maps, uv)[0], torch.stack([maps[0, :, 2, 0], maps[0, :, 0, 3]]))


def test_a_mirrored_portrait_of_a_mirrored_camera_gives_mirrored_samples() -> None:
    points, picture = ball(500), torch.rand(1, 4, 64, 64)
    normals = torch.nn.functional.normalize(points[0], dim=-1)
    flip = torch.tensor([-1.0, 1, 1])
    one = view(picture, orbit_camera(30, size=64), points).sample(points, normals, anything(normals))
    two = view(picture.flip(-1), orbit_camera(-30, size=64), points * flip).sample(
        points * flip, normals * flip, anything(normals)
    )
    torch.testing.assert_close(one.color, two.color, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.facing, two.facing, atol=1e-5, rtol=0)


def test_a_picture_recolours_what_faces_it_and_may_show_what_it_shows() -> None:
    points, camera = ball(), orbit_camera(0, size=64)
    normals = torch.nn.functional.normalize(points[0] - torch.tensor(HEAD_CENTER), dim=-1)
    skin = torch.zeros(1, len(ParsingGroup), 8, 8)
    skin[:, ParsingGroup.SKIN] = 1.0
    may_be_skin = torch.zeros(len(normals), len(ParsingGroup))
    may_be_skin[:, ParsingGroup.SKIN] = 1.0
    towards = facing(camera, points, normals)[0, :, 0]
    trust = recolor_trust(skin, camera, points[0], normals, may_be_skin)
    assert trust[towards > 0.7].min() == 1
    assert trust[towards < 0.3].max() == 0
    between = trust[(towards > 0.45) & (towards < 0.55)]
    assert 0.3 < between.min() < between.max() < 0.7
    assert recolor_trust(skin, camera, points[0], normals, 1 - may_be_skin).max() == 0  # hair, say


def test_a_pixel_counts_as_far_as_it_shows_what_the_point_can_be() -> None:
    points, normals = torch.tensor([[[0.0, 0.01, 0.09]] * 2]), torch.tensor([[0.0, 0, 1]]).expand(2, 3)
    image = view(torch.ones(1, 4, 64, 64), orbit_camera(0, size=64), points)
    compatibility = torch.zeros(2, len(ParsingGroup))
    compatibility[0, ParsingGroup.SKIN] = 0.5
    sample = image.sample(points, normals, compatibility)
    assert sample.fit[0, :, 0].tolist() == [0.5, 0.0]
    assert sample.weight[0, :, 0].tolist() == pytest.approx([0.5, 0.0], abs=1e-3)
