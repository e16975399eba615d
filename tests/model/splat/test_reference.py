"""The oracle against what can be worked out by hand, and its gradients against finite differences."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from headlift.model.splat.reference import rasterize_reference


def one_gaussian(opacity: float = 0.8) -> list[torch.Tensor]:
    """A ball of 2 px standard deviation in the middle of a 32x32 picture, 2 m away."""
    K = torch.tensor([[[100.0, 0, 16], [0, 100, 16], [0, 0, 1]]], dtype=torch.float64)
    return [
        torch.tensor([[0.0, 0, 2]], dtype=torch.float64),
        torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        torch.full((1, 3), 0.04, dtype=torch.float64),
        torch.tensor([opacity], dtype=torch.float64),
        torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64),
        torch.eye(4, dtype=torch.float64)[None],
        K,
    ]


def test_a_ball_has_a_gaussian_profile() -> None:
    rgb, alpha, depth = rasterize_reference(tuple(one_gaussian()), 32, 32)
    offset = torch.arange(32) + 0.5 - 16
    squared = offset[:, None] ** 2 + offset[None, :] ** 2
    expected = 0.8 * torch.exp(-0.5 * squared.double() / (4.0 + 0.3))
    expected = torch.where(expected >= 1 / 255, expected, 0.0)
    assert torch.allclose(alpha[0, 0], expected, atol=1e-9)
    assert torch.allclose(rgb[0], expected * torch.tensor([0.2, 0.5, 0.9]).double()[:, None, None], atol=1e-7)
    assert torch.allclose(depth[0, 0], torch.where(expected > 0, 2.0, 0.0).double())


def test_near_gaussians_hide_far_ones() -> None:
    near, far = one_gaussian(0.6), one_gaussian(1.0)
    far[0][0, 2], far[2][:] = 4.0, 0.08  # twice as far and twice as large: the same ellipse
    both = [torch.cat([b, a]) for a, b in zip(near[:5], far[:5], strict=True)]
    _, alpha, depth = rasterize_reference((*both, *near[5:]), 32, 32)
    a = 0.6 * math.exp(-0.25 / 4.3)
    b = min(1.0 * math.exp(-0.25 / 4.3), 0.999)
    total = a + (1 - a) * b
    assert math.isclose(float(alpha[0, 0, 16, 16]), total, rel_tol=1e-9)
    assert math.isclose(float(depth[0, 0, 16, 16]), (2 * a + 4 * (1 - a) * b) / total, rel_tol=1e-9)


def test_alpha_is_limited_and_opaque_pixels_stop() -> None:
    layers = [torch.cat([t] * 5) for t in one_gaussian(1.0)[:5]]
    layers[0][:, 2] += torch.linspace(0, 1e-6, 5)
    layers[2][:] = 10.0
    _, alpha, _ = rasterize_reference((*layers, *one_gaussian()[5:]), 8, 8)
    # The second layer would leave 1e-6 of the light, less than 1e-4: it is not drawn.
    assert torch.allclose(alpha, torch.full_like(alpha, 0.999), atol=1e-12)


def test_gradients_agree_with_finite_differences(scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(12, size=0.05), scenes.ring(2, 12, 9)
    tensors = [getattr(cloud, n) for n in ("means", "quats", "scales", "opacities", "colors")]
    tensors = [t.double() for t in (*tensors, cameras.viewmats, cameras.Ks)]
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(2, c, 9, 12, generator=g).double() for c in (3, 1, 1)]

    def loss(parts: list[torch.Tensor]) -> torch.Tensor:
        return sum(
            ((v * w).sum() for v, w in zip(rasterize_reference(tuple(parts), 12, 9), weights, strict=True)),
            torch.tensor(0.0),
        )

    leaves = [t.clone().requires_grad_() for t in tensors]
    analytic = torch.autograd.grad(loss(leaves), leaves)
    for i, tensor in enumerate(tensors):
        direction = torch.randn(tensor.shape, generator=g).double()
        if i == 5:
            direction[:, 3] = 0
        if i == 6:
            direction = direction * torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])
        # A step small enough that no pixel crosses the 1/255 threshold.
        step = 1e-9
        ahead, back = (
            loss([t + s * step * direction if j == i else t for j, t in enumerate(tensors)]) for s in (1, -1)
        )
        numeric = float((ahead - back) / (2 * step))
        assert math.isclose(numeric, float((analytic[i] * direction).sum()), rel_tol=1e-3, abs_tol=1e-4)
