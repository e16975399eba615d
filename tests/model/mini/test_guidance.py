"""What patches and Gaussians take from the picture."""

from __future__ import annotations

import torch

from headlift.model.cameras import orbit_camera
from headlift.model.mini.guidance import ProjectedGuidance
from headlift.model.mini.projection import ProjectedImage
from headlift.model.types import ImageTokens


def image(points: torch.Tensor) -> ProjectedImage:
    """A red picture, seen from the front, in which everything may be anything."""
    red = torch.zeros(1, 4, 32, 32)
    red[:, [0, 3]] = 1.0
    return ProjectedImage(red, orbit_camera(0, size=32), points, torch.full((1, 6, 8, 8), 1 / 6))


def test_an_untrained_guidance_blends_towards_what_is_seen_and_leaves_what_is_hidden() -> None:
    torch.manual_seed(0)
    guidance = ProjectedGuidance(16, 8, 2, 4)
    points = torch.tensor([[[0.0, 0.01, 0.09], [0.0, 0.01, -0.09]]])
    normals = torch.tensor([[0.0, 0, 1], [0.0, 0, -1]])
    start = torch.full((1, 2, 3), 0.5)
    colors = guidance.colors(
        torch.randn(1, 2, 4), image(points), points, normals, start, torch.logit(start), torch.ones(2, 6)
    )
    assert float(colors[0, 0, 0]) > 0.8
    assert float(colors[0, 0, 1:].max()) < 0.2
    torch.testing.assert_close(colors[0, 1], torch.full((3,), 0.5))


def test_a_patch_reads_the_token_at_its_own_place_and_at_its_mirror_image() -> None:
    torch.manual_seed(0)
    guidance = ProjectedGuidance(16, 8, 2, 4)
    centers = torch.tensor([[[-0.1, 0.11, 0.0]]])  # upper left of the picture; mirrored: upper right
    places = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])[None]

    def offsets(tokens: torch.Tensor) -> torch.Tensor:
        given = ImageTokens(tokens, torch.ones(1, 4, dtype=torch.bool), places)
        normals = torch.tensor([[0.0, 0, 1]])
        return guidance.query_offsets(given, image(centers), centers, normals, torch.ones(1, 6))

    tokens = torch.randn(1, 4, 8)
    plain, changes = offsets(tokens), []
    for i in range(4):
        other = tokens.clone()
        other[0, i] += 1.0
        changes.append(float((offsets(other) - plain).abs().max()))
    upper_left, upper_right, *lower = changes
    assert min(upper_left, upper_right) > 10 * max(*lower, 1e-3)
