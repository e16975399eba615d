"""Clouds and cameras that the rasteriser's tests draw."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from headlift.errors import BackendUnavailableError
from headlift.model.splat import build_native, native
from headlift.model.types import Cameras, Gaussians


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """The oracle's many small operations are slower on several threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def isas() -> tuple[int, ...]:
    """Builds the library and gives every instruction set that this processor has."""
    try:
        build_native()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    return tuple(range(len(native.instruction_sets())))


def random_cloud(n: int, seed: int = 0, size: float = 0.02) -> Gaussians:
    """Gaussians of very different shape, opacity and colour within 0.15 m of the origin."""
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=(torch.rand(n, 3, generator=g) - 0.5) * 0.3,
        quats=torch.randn(n, 4, generator=g),
        scales=size * torch.exp(torch.randn(n, 3, generator=g) * 0.8),
        opacities=torch.rand(n, generator=g),
        colors=torch.rand(n, 3, generator=g),
    )


def ring(c: int, width: int, height: int) -> Cameras:
    """C slightly tilted cameras around the origin with an off-centre principal point."""
    viewmats = torch.eye(4).repeat(c, 1, 1)
    for i in range(c):
        yaw, pitch = 2 * math.pi * i / max(c, 1) + 0.3, 0.2 - 0.1 * i
        cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
        turn = torch.tensor([[cy, 0.0, sy], [0.0, -1.0, 0.0], [sy, 0.0, -cy]])
        tilt = torch.tensor([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
        viewmats[i, :3, :3] = tilt @ turn
        viewmats[i, 2, 3] = 0.6 + 0.1 * i
    side = max(width, height)
    K = torch.tensor([[1.4 * side, 0.0, 0.47 * width], [0.0, 1.3 * side, 0.52 * height], [0.0, 0.0, 1.0]])
    return Cameras(viewmats, K.repeat(c, 1, 1), width, height)


def degenerate_cloud() -> Gaussians:
    """Ordinary Gaussians among those that break careless rasterisers."""
    cloud = random_cloud(200, seed=3)
    means, quats, scales, opacities = (t.clone() for t in (cloud.means, cloud.quats, cloud.scales, cloud.opacities))
    scales[:20] = 0.0
    scales[20:40, 2] = 0.0
    scales[40:45] = 5.0  # fills the picture
    scales[45:48] = 1e6
    means[50:60] = torch.tensor([0.0, 0.0, 50.0])  # behind some cameras
    means[60:70] *= 100.0  # off screen
    means[70:72] = 1e20
    means[72:74] = 0.6  # about the camera's own distance
    quats[80:90] = 0.0
    quats[90:95] *= 1e-6
    quats[95:99] *= 1e6
    opacities[100:120] = 0.0
    opacities[120:160] = 1.0
    opacities[160:165] = 1.0 / 255.0
    means[170:180] = means[170]  # one depth for all
    return replace(cloud, means=means, quats=quats, scales=scales, opacities=opacities)


@pytest.fixture(scope="session")
def scenes() -> SimpleNamespace:
    """The functions above: ``random_cloud(n, seed, size)``, ``degenerate_cloud()``, ``ring(c, width, height)``."""
    return SimpleNamespace(random_cloud=random_cloud, degenerate_cloud=degenerate_cloud, ring=ring)
