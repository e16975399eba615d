"""Tiny networks of every kind, with random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from headlift.model.mini.config import HeadNetConfig
from headlift.model.mini.headnet import HeadNet
from headlift.pretrained.dinov2 import Architecture, Dinov2
from headlift_trainer.metrics.lpips import Lpips
from headlift_trainer.perceptual import Framing, PictureTerm, dino_loss, headnet_loss, l1_loss, lpips_loss, ssim_loss


def tiny_dino(layers: tuple[int, ...] = (2, 3)) -> Dinov2:
    torch.manual_seed(0)
    network = Dinov2(Architecture(32, 3, 2, grid=5), layers, "hf")
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.3 * torch.randn(p.shape))
    return network


def tiny_headnet() -> HeadNet:
    torch.manual_seed(0)
    network = HeadNet(HeadNetConfig(dim=16, depth=3, num_heads=2, landmarks=2, identity_dim=4, stem=(4, 8, 8), neck=8))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def dino() -> Dinov2:
    return tiny_dino()


@pytest.fixture(scope="session")
def make_dino() -> Callable[..., Dinov2]:
    """The same network each time, loaded for these layers."""
    return tiny_dino


@pytest.fixture(scope="session")
def headnet() -> HeadNet:
    return tiny_headnet()


@pytest.fixture(params=["dino", "headnet", "sam", "lpips", "l1", "ssim"])
def term(request: pytest.FixtureRequest) -> PictureTerm:
    """Each kind of term, seeing about 64 pixels."""
    torch.manual_seed(0)
    if request.param == "dino":
        return dino_loss(tiny_dino(), framing=Framing(56, 64, "bicubic"))
    if request.param == "headnet":
        return headnet_loss(tiny_headnet(), side=64)
    if request.param == "sam":
        pytest.importorskip("sam2", reason="the optional package sam2 is not installed")
        from headlift_trainer.metrics.sam2 import Architecture as SamShape
        from headlift_trainer.metrics.sam2 import Sam2Encoder
        from headlift_trainer.perceptual import sam_loss

        shape = SamShape(8, 1, (1, 1, 2, 1), (3,), grid=3, windows=(2, 2, 4, 2), embedding=16)
        return sam_loss(Sam2Encoder(shape), side=64)
    return {"lpips": lambda: lpips_loss(Lpips("alex")), "l1": l1_loss, "ssim": ssim_loss}[request.param]()


@pytest.fixture(scope="session")
def pictures() -> torch.Tensor:
    """Three pictures with detail at several scales, [3, 3, 64, 64] in 0..1."""
    generator = torch.Generator().manual_seed(3)
    sizes = (4, 16, 64)
    layers = [torch.rand(3, 3, size, size, generator=generator) for size in sizes]
    return torch.stack([torch.nn.functional.interpolate(x, (64, 64), mode="bilinear") for x in layers]).mean(0)
