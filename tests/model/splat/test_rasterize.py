"""The public entry: what it refuses, what it chooses, and that its backends agree."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from headlift.errors import (
    BackendUnavailableError,
    HeadliftError,
    InvalidCameraError,
    InvalidGaussiansError,
    InvalidInputError,
)
from headlift.model.splat import available_backends, native, rasterize

module = sys.modules["headlift.model.splat.rasterize"]  # the package shows the function under this name
ATTRIBUTES = ("means", "quats", "scales", "opacities", "colors")


def test_auto_takes_the_native_backend_where_it_can_be_built(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    assert "native" in available_backends()
    assert available_backends()[-1] == "reference"
    cloud, cameras = scenes.random_cloud(300), scenes.ring(2, 40, 30)
    auto, native = rasterize(cloud, cameras), rasterize(cloud, cameras, backend="native")
    assert torch.equal(auto.rgb, native.rgb)
    assert (auto.rgb - rasterize(cloud, cameras, backend="reference").rgb).abs().max() < 1e-4


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_values_that_are_not_finite_are_named(
    isas: tuple[int, ...], scenes: SimpleNamespace, backend: str, name: str
) -> None:
    cloud = scenes.random_cloud(20)
    bad = getattr(cloud, name).clone()
    bad.view(20, -1)[7, -1] = float("nan")
    with pytest.raises(InvalidGaussiansError, match=name):
        rasterize(replace(cloud, **{name: bad}), scenes.ring(1, 16, 16), backend=backend)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_wrong_shapes_are_named(scenes: SimpleNamespace, name: str) -> None:
    cloud = scenes.random_cloud(20)
    for wrong in (getattr(cloud, name)[:-1], getattr(cloud, name)[..., None], torch.zeros(())):
        with pytest.raises(InvalidGaussiansError):
            rasterize(replace(cloud, **{name: wrong}), scenes.ring(1, 16, 16))


def test_bad_cameras_are_refused(scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(20), scenes.ring(2, 16, 16)
    for changes in (
        {"viewmats": cameras.viewmats[:1]},
        {"Ks": cameras.Ks[:, :2]},
        {"width": 0},
        {"height": 100_000},
        {"viewmats": cameras.viewmats * float("nan")},
        {"viewmats": cameras.viewmats * 0},
        {"Ks": cameras.Ks * -1},
    ):
        with pytest.raises(InvalidCameraError):
            rasterize(cloud, replace(cameras, **changes))


def test_mixed_and_unknown_kinds_are_refused(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(20), scenes.ring(1, 16, 16)
    with pytest.raises(InvalidInputError, match="float64"):
        rasterize(cloud.to(dtype=torch.float64), cameras)
    with pytest.raises(InvalidInputError, match="float16"):
        rasterize(cloud.to(dtype=torch.float16), cameras.to(dtype=torch.float16))
    with pytest.raises(HeadliftError, match="float64"):
        rasterize(cloud.to(dtype=torch.float64), cameras.to(dtype=torch.float64), backend="native")
    with pytest.raises(InvalidInputError, match="opengl"):
        rasterize(cloud, cameras, backend="opengl")
    with pytest.raises(InvalidInputError):
        rasterize(replace(cloud, colors=cloud.colors.to("meta")), cameras)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_gsplat_without_a_gpu_says_the_way_out(scenes: SimpleNamespace) -> None:
    assert "gsplat" not in available_backends()
    with pytest.raises(BackendUnavailableError, match="CUDA"):
        rasterize(scenes.random_cloud(20), scenes.ring(1, 16, 16), backend="gsplat")


def test_one_camera_of_many_is_drawn_as_if_alone(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(500), scenes.ring(5, 33, 47)
    together = rasterize(cloud, cameras)
    for i in range(5):
        alone = rasterize(cloud, cameras[i])
        assert torch.equal(alone.rgb[0], together.rgb[i])
        assert torch.equal(alone.depth[0], together.depth[i])


def test_strided_views_are_drawn_like_dense_ones(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(64), scenes.ring(1, 20, 20)
    strided = replace(cloud, means=cloud.means.T.contiguous().T, colors=torch.cat([cloud.colors] * 2, dim=1)[:, :3])
    assert torch.equal(rasterize(cloud, cameras).rgb, rasterize(strided, cameras).rgb)


def test_the_fallback_warns_once_and_draws_the_same(scenes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "unavailable_because", lambda: "No C++ compiler was found.")
    monkeypatch.setattr(module, "_warned", [])
    cloud, cameras = scenes.random_cloud(50), scenes.ring(1, 20, 20)
    with pytest.warns(RuntimeWarning, match="No C.. compiler"):
        first = rasterize(cloud, cameras)
    assert torch.equal(first.rgb, rasterize(cloud, cameras).rgb)  # a second warning would be an error
    assert torch.equal(first.rgb, rasterize(cloud, cameras, backend="reference").rgb)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_gsplat_and_native_agree(isas: tuple[int, ...], scenes: SimpleNamespace) -> None:
    cloud, cameras = scenes.random_cloud(5000, size=0.006), scenes.ring(3, 200, 150)
    weights = torch.randn(3, 5, 150, 200, generator=torch.Generator().manual_seed(2))
    results = []
    for device, backend in (("cpu", "native"), ("cuda", "gsplat")):
        leaves = replace(cloud.to(device), **{n: getattr(cloud, n).to(device).requires_grad_() for n in ATTRIBUTES})
        seen = replace(cameras.to(device), viewmats=cameras.viewmats.to(device).requires_grad_())
        views = rasterize(leaves, seen, backend=backend)
        picture = torch.cat([views.rgb, views.alpha, views.depth], dim=1)
        inputs = [getattr(leaves, n) for n in ATTRIBUTES] + [seen.viewmats]
        grads = torch.autograd.grad((picture * weights.to(device)).sum(), inputs)
        results.append((picture.detach().cpu(), [g.cpu() for g in grads]))
    (ours, our_grads), (theirs, their_grads) = results
    assert ((ours - theirs).abs() > 1e-4).float().mean() < 1e-4
    for name, a, b in zip((*ATTRIBUTES, "viewmats"), our_grads, their_grads, strict=True):
        assert (a - b).norm() < 1e-2 * b.norm(), name
