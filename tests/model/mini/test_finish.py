"""Heads without holes, and in the one tone of their portrait."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial import cKDTree

from headlift.model.cameras import orbit_camera
from headlift.model.gaussians import quats_from_normals
from headlift.model.mini.finish import fill_holes, match_monochrome
from headlift.model.splat import rasterize
from headlift.model.types import HEAD_CENTER, Gaussians

COUNT = 3000
FACE = torch.ones(COUNT, dtype=torch.bool)


@pytest.fixture(scope="module")
def ball():
    """Normals of a ball, evenly spread but in no order, and the eight nearest neighbours of each of its points."""
    turn = torch.arange(COUNT) * 2.399963  # the golden angle
    height = 1 - 2 * (torch.arange(COUNT) + 0.5) / COUNT
    aside = (1 - height.square()).sqrt()
    normals = torch.stack([aside * turn.cos(), height, aside * turn.sin()], -1)
    normals = normals[torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))]
    return with_neighbors(normals)


@pytest.fixture(scope="module")
def uneven():
    """The same of a ball whose points lie anywhere."""
    return with_neighbors(
        torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    )


def with_neighbors(normals):
    return normals, torch.from_numpy(cKDTree(normals.numpy()).query(normals.numpy(), k=9)[1][:, 1:])


def head(normals: torch.Tensor, radius: float) -> Gaussians:
    """Discs on the ball: white in front, black behind."""
    scales = radius * torch.tensor([1.0, 1.0, 0.2]).expand(COUNT, 3)
    colors = (normals[:, 2:] > 0).float().expand(-1, 3)
    means = torch.tensor(HEAD_CENTER) + 0.1 * normals
    return Gaussians(means, quats_from_normals(normals), scales, torch.full((COUNT,), 0.95), colors)


def test_the_back_no_longer_shows_through_the_face(ball, uneven):
    def darkest(shown: Gaussians) -> float:
        views = rasterize(shown, orbit_camera(0, size=192))
        return float(views.rgb[0, 0, 80:112, 80:112].min())

    holey = head(ball[0], 0.001)
    assert darkest(holey) < 0.2
    for face in (FACE, ~FACE):
        assert darkest(fill_holes(holey, ball[1], ball[0], face, 0.6)) > 0.6
    holey = head(uneven[0], 0.001)
    for face in (FACE, ~FACE):
        assert darkest(fill_holes(holey, uneven[1], uneven[0], face, 0.8)) > 0.6


def test_three_of_four_discs_keep_their_detail(ball):
    """Points of light as fine as the discs stay where they are seen from; wider discs would drown them."""
    normals, neighbors = ball
    fine = head(normals, 0.0022)
    made = fill_holes(fine, neighbors, normals, FACE, 0.6)
    upper = torch.arange(COUNT) % 4 > 0
    for name in ("means", "quats", "opacities", "colors", "scales"):
        assert torch.equal(getattr(made, name)[upper], getattr(fine, name)[upper])
    assert (made.scales[~upper][:, :2] > 1.5 * fine.scales[~upper][:, :2]).float().mean() > 0.9
    assert torch.equal(made.scales[:, 2], fine.scales[:, 2])
    radius = (made.means - torch.tensor(HEAD_CENTER)).norm(dim=1)
    assert torch.allclose(radius[upper], torch.tensor(0.1), atol=1e-6)
    assert torch.allclose(radius[~upper], torch.tensor(0.097), atol=1e-6)
    assert float(made.opacities[~upper].min()) > 0.949


def test_elsewhere_discs_grow_where_they_are(ball):
    narrow = head(ball[0], 0.0005)
    made = fill_holes(narrow, ball[1], ball[0], ~FACE, 0.5)
    assert torch.equal(made.scales[:, 2], narrow.scales[:, 2])
    assert (made.scales[:, :2] > 2 * narrow.scales[:, :2]).float().mean() > 0.9
    assert torch.allclose(made.scales[:, :2].mean(), torch.tensor(0.5 * 0.0069), rtol=0.1)
    for name in ("means", "quats", "opacities", "colors"):
        assert torch.equal(getattr(made, name), getattr(narrow, name))


def test_wide_discs_keep_their_width(ball):
    wide = head(ball[0], 0.05)
    assert torch.equal(fill_holes(wide, ball[1], ball[0], FACE, 0.5).scales, wide.scales)


def test_what_lies_beneath_hides_nothing_that_lies_upon_it(ball):
    """A pattern of the upper discs, seen from the front, is more contrasty than with every disc widened."""
    normals, neighbors = ball
    fine = head(normals, 0.0025)
    stripes = ((normals[:, :1] * 20).floor() % 2).expand(-1, 3)

    def contrast(shown: Gaussians) -> float:
        views = rasterize(shown, orbit_camera(0, size=192))
        return float(views.rgb[0, 0, 84:108, 84:108].std())

    painted = replace(fine, colors=stripes)
    blurred = contrast(fill_holes(painted, neighbors, normals, ~FACE, 0.6))
    made = contrast(fill_holes(painted, neighbors, normals, FACE, 0.6))
    assert made > 1.1 * blurred


# -- one tone ------------------------------------------------------------

LUMA = torch.tensor([0.299, 0.587, 0.114])


def portrait(colors: torch.Tensor) -> torch.Tensor:
    """[1, 4, 128, 128]: colours [128, 128, 3] in a disc, multiplied by alpha."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    alpha = (x**2 + y**2 < 0.8).float()[None]
    return torch.cat([colors.permute(2, 0, 1) * alpha, alpha])[None]


def brightness() -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 128)[None, :, None].expand(128, 128, 1)


def sepia(grey: torch.Tensor) -> torch.Tensor:
    """Some 0.06 redder and 0.14 less blue at middle brightness."""
    return torch.cat([grey + 0.25 * grey * (1 - grey), grey, grey - 0.6 * grey * (1 - grey)], -1)


COLORS = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))


def spread(colors: torch.Tensor) -> torch.Tensor:
    """How far colours are from grey, on average."""
    return (colors.max(-1).values - colors.min(-1).values).mean()


def test_the_head_of_a_grey_portrait_is_grey_and_as_bright_as_before() -> None:
    noisy = brightness() + 0.004 * torch.randn(128, 128, 3, generator=torch.Generator().manual_seed(0))
    grey = match_monochrome(COLORS, portrait(noisy))
    assert (grey.max(-1).values - grey.min(-1).values).max() < 0.005
    torch.testing.assert_close(grey @ LUMA, COLORS @ LUMA, atol=0.005, rtol=0)


def test_the_head_of_a_sepia_portrait_is_sepia() -> None:
    changed = match_monochrome(COLORS, portrait(sepia(brightness())))
    grey = (COLORS @ LUMA)[:, None]
    inside = ((grey > 0.2) & (grey < 0.8))[:, 0]
    torch.testing.assert_close((changed @ LUMA)[inside], (COLORS @ LUMA)[inside], atol=0.01, rtol=0)
    red, green, blue = changed[inside].unbind(-1)
    assert (red - green).min() > 0.02
    assert (green - blue).min() > 0.05
    # Equally bright is equally match_monochrome.
    order = grey[inside, 0].argsort()
    assert (red - blue)[order].diff().abs().max() < 0.02


@pytest.mark.parametrize("colored", [0.06, 0.1, 0.3])
def test_a_portrait_with_colours_of_its_own_changes_nothing(colored: float) -> None:
    spots = brightness().repeat(1, 1, 3)
    spots[40:70, :, 0] += colored  # lips, say
    assert match_monochrome(COLORS, portrait(spots)) is COLORS


def test_nobody_in_the_picture_says_nothing() -> None:
    assert match_monochrome(COLORS, torch.zeros(1, 4, 64, 64)) is COLORS
