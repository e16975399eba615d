"""The closed-form smoothness against autograd, and the picture error at its zero."""

from __future__ import annotations

import torch

from headlift.model.refine.neighborhood import Neighborhood
from headlift.model.refine.objective import Roughness, picture_error
from headlift.model.types import RenderedViews


def graph_of(neighbors: torch.Tensor) -> Neighborhood:
    return Neighborhood(neighbors, torch.arange(len(neighbors)))


def test_roughness_and_its_gradient_equal_autograd() -> None:
    g = torch.Generator().manual_seed(0)
    neighbors = torch.randint(0, 50, (50, 8), generator=g)
    x = torch.randn(50, 4, generator=g, dtype=torch.float64).requires_grad_()
    weights = torch.rand(4, generator=g, dtype=torch.float64)
    energy, gradient = Roughness(graph_of(neighbors))(x.detach(), weights)
    truth = ((x - x[neighbors].mean(1)).square() * weights).sum(1).mean()
    (expected,) = torch.autograd.grad(truth, x)
    assert abs(energy - float(truth.detach())) < 1e-9
    assert torch.allclose(gradient, expected, atol=1e-12)


def test_constant_fields_are_not_rough() -> None:
    neighbors = torch.randint(0, 30, (30, 8), generator=torch.Generator().manual_seed(1))
    energy, gradient = Roughness(graph_of(neighbors))(torch.full((30, 2), 3.0), torch.ones(2))
    assert energy < 1e-9
    assert gradient.abs().max() < 1e-6


def test_the_error_of_equal_pictures_is_zero_over_every_background() -> None:
    g = torch.Generator().manual_seed(2)
    alpha = torch.rand(1, 1, 33, 33, generator=g)
    rgb = torch.rand(1, 3, 33, 33, generator=g) * alpha
    views = RenderedViews(rgb, alpha, torch.zeros_like(alpha))
    all_of_it = torch.ones_like(alpha[0])

    def error(image: torch.Tensor, background: torch.Tensor) -> float:
        weights = (1.0, 0.7, 0.5)
        return float(picture_error(views, image, alpha[0], all_of_it, all_of_it, background, weights, 0.3))

    assert error(rgb[0], torch.zeros(3)) == error(rgb[0], torch.rand(3, generator=g)) == 0.0
    assert error(rgb[0] * 0.5, torch.zeros(3)) > 0.0


def test_what_lies_past_the_photograph_costs_nothing() -> None:
    rgb, alpha = torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16)
    views = RenderedViews(rgb, alpha, alpha)
    source_mask, everything = torch.zeros(1, 16, 16), torch.ones(1, 16, 16)
    source_mask[:, :8] = 1
    image, matte = rgb[0].clone(), alpha[0].clone()
    image[:, 8:], matte[:, 8:] = 0, 0
    assert float(picture_error(views, image, matte, source_mask, everything, torch.ones(3), (1.0,), 0.3)) == 0.0
    assert float(picture_error(views, image, matte, everything, everything, torch.ones(3), (1.0,), 0.3)) > 0.0


def test_colors_of_weight_zero_cost_nothing_and_outlines_do() -> None:
    rgb, alpha = torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16)
    views = RenderedViews(rgb, alpha, alpha)
    source_mask, color_weight = torch.ones(1, 16, 16), torch.zeros(1, 16, 16)
    masks = source_mask, color_weight
    assert float(picture_error(views, 1 - rgb[0], alpha[0], *masks, torch.ones(3), (1.0,), 0.3)) == 0.0
    assert float(picture_error(views, 1 - rgb[0], 1 - alpha[0], *masks, torch.ones(3), (1.0,), 0.3)) > 0.01
