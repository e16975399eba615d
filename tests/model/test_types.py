"""The records that flow between stages keep their promises."""

import pytest
import torch

from headlift.errors import InvalidCameraError, InvalidGaussiansError
from headlift.model.cameras import orbit_cameras
from headlift.model.types import Gaussians, Portrait


def gaussians(n: int = 5) -> Gaussians:
    return Gaussians(torch.zeros(n, 3), torch.eye(1, 4).repeat(n, 1), torch.ones(n, 3), torch.ones(n), torch.ones(n, 3))


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
def test_gaussians_that_are_not_finite_are_refused_by_name(name: str) -> None:
    from dataclasses import replace

    good = gaussians()
    broken = getattr(good, name).clone()
    broken.view(-1)[0] = float("nan")
    with pytest.raises(InvalidGaussiansError, match=name):
        replace(good, **{name: broken}).validate()


def test_resized_cameras_see_the_same_window() -> None:
    small = orbit_cameras([30.0], width=128, height=128)
    large = small.resized(512, 512)
    assert torch.allclose(large.Ks[:, :2] / 512, small.Ks[:, :2] / 128)
    assert (large.width, large.height) == (512, 512)


def test_a_singular_camera_is_refused() -> None:
    from dataclasses import replace

    camera = orbit_cameras([0.0])
    with pytest.raises(InvalidCameraError, match="singular"):
        replace(camera, viewmats=torch.zeros(1, 4, 4)).validate()


def test_what_lies_past_the_photograph_is_not_known() -> None:
    # The source is 40 x 20; the crop of 32 shows it at scale 1/2, shifted 4 right and 6 down: columns 4-24, rows 6-16.
    matrix = torch.tensor([[0.5, 0.0, 4.0], [0.0, 0.5, 6.0]], dtype=torch.float64)
    portrait = Portrait(torch.zeros(3, 32, 32), torch.zeros(1, 32, 32), matrix, source_size=(40, 20))
    expected = torch.zeros(1, 32, 32)
    expected[:, 6:16, 4:24] = 1
    assert torch.equal(portrait.source_mask(), expected)


def test_without_a_source_size_everything_counts_as_known() -> None:
    portrait = Portrait(torch.zeros(3, 8, 8), torch.zeros(1, 8, 8), torch.eye(2, 3, dtype=torch.float64))
    assert bool((portrait.source_mask() == 1).all())
