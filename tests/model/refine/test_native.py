"""The fused C++ of refinement against torch: pictures of any size, every channel of a step, any number of threads."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from headlift.commands.bench_splat import head_cloud
from headlift.model.refine import Neighborhood, RefineSettings
from headlift.model.refine.change import GaussianChange
from headlift.model.refine.native import NativeGaussianChange, native_picture_error
from headlift.model.refine.objective import picture_error
from headlift.model.splat import drawing_threads
from headlift.model.splat.native import unavailable_because
from headlift.model.types import Gaussians, RenderedViews

pytestmark = pytest.mark.skipif(unavailable_because() is not None, reason="the native library cannot be built here")
COUNT = 2500  # more than two chunks of the native code
PARTS = ("means", "colors", "scales", "opacities")


def views_of(height: int, width: int, seed: int) -> RenderedViews:
    g = torch.Generator().manual_seed(seed)
    rgb, alpha = (torch.rand(1, c, height, width, generator=g).requires_grad_() for c in (3, 1))
    return RenderedViews(rgb, alpha, torch.zeros_like(alpha))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (37, 21), (5, 1)])
@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.7, 0.5), (0.3, 0.2, 0.4, 0.1, 0.9)])
def test_the_error_of_a_picture_and_its_gradient_equal_torch(
    height: int, width: int, weights: tuple[float, ...]
) -> None:
    g = torch.Generator().manual_seed(3)
    image, alpha = torch.rand(3, height, width, generator=g), torch.rand(1, height, width, generator=g)
    source_mask = (torch.rand(1, height, width, generator=g) > 0.2).float()
    color_weight, background = torch.rand(1, height, width, generator=g), torch.rand(3, generator=g)
    found = []
    for function in (picture_error, native_picture_error):
        views = views_of(height, width, 1)
        error = function(views, image, alpha, source_mask, color_weight, background, weights, 0.8)
        (2 * error).backward()
        found.append((error.detach(), views.rgb.grad, views.alpha.grad))
    for expected, value in zip(*found, strict=True):
        assert torch.allclose(value, expected, rtol=1e-5, atol=1e-8)


def change_of(seen: Tensor) -> GaussianChange:
    g = torch.Generator().manual_seed(0)
    start = head_cloud(COUNT, seed=1)
    graph = Neighborhood(
        torch.randint(0, COUNT, (COUNT, 6), generator=g), torch.randint(0, COUNT, (COUNT,), generator=g)
    )
    hidden, trust = torch.rand(COUNT, generator=g), torch.rand(COUNT, generator=g)
    settings = RefineSettings(
        means_rate=0.02, scales_rate=0.3, colors_rate=2.0, smooth_means=0.001
    )  # so fast that bounds are met
    return GaussianChange(start, graph, seen, hidden, trust, settings)


def stepped(change: GaussianChange | NativeGaussianChange, seen: Tensor) -> tuple[Gaussians, Gaussians, list[float]]:
    energies = []
    for _ in range(6):
        g = torch.Generator().manual_seed(9)
        drawn = change.drawn()
        parts = [getattr(drawn, name) for name in PARTS]
        slopes = [torch.randn(len(seen), *p.shape[1:], generator=g) * 0.01 for p in parts]
        sum((p * slope).sum() for p, slope in zip(parts, slopes, strict=True)).backward()
        energies.append(change.step(0.9))
    return change.gaussians().detach(), change.drawn().detach(), energies


@pytest.mark.parametrize("every", [1, 3])
def test_a_step_equals_torch_whoever_is_drawn(every: int) -> None:
    seen = torch.arange(0, COUNT, every)
    expected = stepped(change_of(seen), seen)
    found = stepped(NativeGaussianChange(change_of(seen)), seen)
    for heads in zip(expected[:2], found[:2], strict=True):
        for name in PARTS:
            truth, value = (getattr(head, name) for head in heads)
            assert torch.allclose(value, truth, rtol=1e-5, atol=2e-6), name
    assert expected[2] == pytest.approx(found[2], rel=1e-5)
    moved = (found[0].means - change_of(seen).start.means).norm(dim=1)
    assert float(moved.max()) == pytest.approx(0.03, rel=1e-4)
    assert float(moved[1]) > 0  # also what is not drawn moves, with its neighbours


def test_the_number_of_threads_changes_no_bit() -> None:
    seen = torch.arange(0, COUNT, 2)
    heads = []
    for threads in (1, 2, 5):
        with drawing_threads(threads):
            heads.append(stepped(NativeGaussianChange(change_of(seen)), seen))
    for other in heads[1:]:
        assert all(torch.equal(getattr(heads[0][0], f.name), getattr(other[0], f.name)) for f in fields(Gaussians))
        assert other[2] == heads[0][2]


def test_nobody_is_drawn() -> None:
    change = NativeGaussianChange(change_of(torch.zeros(0, dtype=torch.int64)))
    assert len(change.drawn()) == 0
    before = change.gaussians()
    assert change.step(1.0) > 0  # colours of the mirrored side
    after = change.gaussians()
    assert torch.equal(before.opacities, after.opacities)
    assert not torch.equal(before.colors, after.colors)
