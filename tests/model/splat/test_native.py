"""The native rasteriser against the oracle, on every instruction set of this processor."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from headlift.errors import BackendUnavailableError, InvalidGaussiansError
from headlift.model.splat.native import instruction_sets, rasterize_native
from headlift.model.splat.reference import rasterize_reference
from headlift.model.types import Cameras, Gaussians

ATTRIBUTES = ("means", "quats", "scales", "opacities", "colors")
SIZES = [(1, 1), (17, 33), (64, 48), (130, 67)]


def tensors_of(cloud: Gaussians, cameras: Cameras, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    parts = (*(getattr(cloud, n) for n in ATTRIBUTES), cameras.viewmats, cameras.Ks)
    return tuple(t.detach().to(dtype).clone() for t in parts)


def gradients(tensors: tuple[Tensor, ...], views: tuple[Tensor, ...], weights: list[Tensor]) -> tuple[Tensor, ...]:
    loss = sum((v * w.to(v.dtype)).sum() for v, w in zip(views, weights, strict=True))
    return torch.autograd.grad(loss, tensors)


def view_weights(views: tuple[Tensor, ...], seed: int = 5) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(v.shape, generator=g) for v in views]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("kind", ["random", "degenerate", "head"])
def test_pictures_equal_the_oracle(
    isas: tuple[int, ...], scenes: SimpleNamespace, kind: str, width: int, height: int
) -> None:
    cloud = {
        "random": lambda: scenes.random_cloud(1003),
        "degenerate": scenes.degenerate_cloud,
        "head": lambda: scenes.random_cloud(3001, seed=2, size=0.004),
    }[kind]()
    tensors = tensors_of(cloud, scenes.ring(3, width, height))
    oracle = rasterize_reference(tensors, width, height)
    for isa in isas:
        views = rasterize_native(tensors, width, height, isa=isa)
        for ours, truth in zip(views, oracle, strict=True):
            assert ours.shape == truth.shape
            far = ((ours - truth).abs() > 1e-4).sum()
            assert far <= max(3, 1e-4 * ours.numel()), f"isa {isa}: {int(far)} of {ours.numel()} values differ"


@pytest.mark.parametrize("kind", ["random", "degenerate"])
def test_gradients_equal_the_oracle_in_float64(isas: tuple[int, ...], scenes: SimpleNamespace, kind: str) -> None:
    cloud = scenes.random_cloud(501) if kind == "random" else scenes.degenerate_cloud()
    if kind == "degenerate":  # a picture-filling Gaussian's float32 gradient is a sum of cancelling terms
        keep = cloud.scales.amax(-1) < 1.0
        cloud = Gaussians(*(getattr(cloud, n)[keep] for n in ATTRIBUTES))
    cameras = scenes.ring(2, 61, 45)
    exact = tuple(t.requires_grad_() for t in tensors_of(cloud, cameras, torch.float64))
    views = rasterize_reference(exact, 61, 45)
    weights = view_weights(views)
    truth = gradients(exact, views, weights)
    for isa in isas:
        tensors = tuple(t.requires_grad_() for t in tensors_of(cloud, cameras))
        ours = gradients(tensors, rasterize_native(tensors, 61, 45, isa=isa), weights)
        for name, a, b in zip((*ATTRIBUTES, "viewmats", "Ks"), ours, truth, strict=True):
            assert torch.isfinite(a).all(), name
            error = float((a - b).norm() / b.norm())
            assert error < 1e-3, f"{name}, isa {isa}: relative error {error:.1e}"


def test_gradients_of_single_outputs_may_be_missing(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(200), scenes.ring(1, 40, 30)
    exact = tuple(t.requires_grad_() for t in tensors_of(cloud, cameras, torch.float64))
    tensors = tuple(t.requires_grad_() for t in tensors_of(cloud, cameras))
    truth_views, views = rasterize_reference(exact, 40, 30), rasterize_native(tensors, 40, 30, isa=isas[-1])
    for which in range(3):
        truth = torch.autograd.grad(truth_views[which].sum(), exact, retain_graph=True, allow_unused=True)
        ours = torch.autograd.grad(views[which].sum(), tensors, retain_graph=True)
        for a, b in zip(ours, truth, strict=True):
            expected = torch.zeros_like(a) if b is None else b.to(a)
            assert (a - expected).norm() <= 1e-3 * expected.norm() + 1e-5


def test_huge_gaussians_give_finite_pictures_and_gradients(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud = scenes.degenerate_cloud()
    for isa in isas:
        tensors = tuple(t.requires_grad_() for t in tensors_of(cloud, scenes.ring(4, 33, 17)))
        views = rasterize_native(tensors, 33, 17, isa=isa)
        assert all(torch.isfinite(v).all() for v in views)
        assert all(torch.isfinite(g).all() for g in gradients(tensors, views, view_weights(views)))


def test_the_number_of_threads_changes_no_bit(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    tensors = tensors_of(scenes.random_cloud(4001, size=0.008), scenes.ring(2, 90, 70))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5, 5):
            torch.set_num_threads(threads)
            leaves = tuple(t.clone().requires_grad_() for t in tensors)
            views = rasterize_native(leaves, 90, 70, isa=isas[-1])
            results.append((*views, *gradients(leaves, views, view_weights(views))))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_several_threads_may_draw_at_once(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    jobs = [tensors_of(scenes.random_cloud(700, seed=i), scenes.ring(2, 50 + i, 40)) for i in range(6)]
    alone = [rasterize_native(job, 50 + i, 40) for i, job in enumerate(jobs)]
    together: dict[int, list[tuple[Tensor, ...]]] = {i: [] for i in range(6)}

    def draw(i: int) -> None:
        for _ in range(5):
            together[i].append(rasterize_native(jobs[i], 50 + i, 40))

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, views in together.items():
        assert len(views) == 5
        assert all(torch.equal(a, b) for view in views for a, b in zip(view, alone[i], strict=True))


def test_nothing_to_draw_is_black(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud = scenes.random_cloud(0)
    for c in (0, 2):
        tensors = tuple(t.requires_grad_() for t in tensors_of(cloud, scenes.ring(c, 20, 10)))
        views = rasterize_native(tensors, 20, 10)
        assert [v.shape for v in views] == [(c, 3, 10, 20), (c, 1, 10, 20), (c, 1, 10, 20)]
        assert not any(v.any() for v in views)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", float("nan")),
        ("quats", float("inf")),
        ("scales", -1e-3),
        ("opacities", 1.01),
        ("colors", float("nan")),
    ],
)
def test_bad_values_anywhere_are_refused(
    isas: tuple[int, ...], scenes: SimpleNamespace, name: str, value: float
) -> None:
    for place in (0, 16, 36):
        tensors = tensors_of(scenes.random_cloud(37), scenes.ring(1, 20, 10))
        tensors[ATTRIBUTES.index(name)].view(37, -1)[place, 0] = value
        for isa in isas:
            with pytest.raises(InvalidGaussiansError):
                rasterize_native(tensors, 20, 10, isa=isa)


def test_gaussians_that_cover_too_many_tiles_are_refused(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud = scenes.random_cloud(3000, size=5.0)
    with pytest.raises(InvalidGaussiansError, match="tiles"):
        rasterize_native(tensors_of(cloud, scenes.ring(1, 4096, 4096)), 4096, 4096)


def test_an_unknown_instruction_set_is_refused(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    assert len(instruction_sets()) >= 1
    with pytest.raises(BackendUnavailableError):
        rasterize_native(tensors_of(scenes.random_cloud(3), scenes.ring(1, 8, 8)), 8, 8, isa=7)
