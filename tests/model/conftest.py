"""Small templates and models: 32 patches of 16 on a ball, and the "tiny" size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.perchead.config import PercHeadConfig
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.template import Template

MakeModel = Callable[..., PercHead]


def ball_template(n: int = 512) -> Template:
    """Anchors on a ball of 9 cm, nearby ones in one patch."""
    gen = torch.Generator().manual_seed(0)
    poles = F.normalize(torch.randn(n // 16, 1, 3, generator=gen), dim=-1)
    normals = F.normalize(poles + 0.1 * torch.randn(n // 16, 16, 3, generator=gen), dim=-1).reshape(n, 3)
    return Template(
        anchors=0.09 * normals,
        normals=normals,
        spacing=torch.full((n,), 0.004),
        neighbors=(torch.arange(n)[:, None] + torch.arange(1, 9)) % n,
        mirror=torch.arange(n).flip(0),
        regions=torch.arange(n, dtype=torch.int64).remainder(5).to(torch.uint8),
        name="ball",
        sha256="0" * 64,
    )


def randomise(model: PercHead, seed: int = 1) -> PercHead:
    """Give every weight a value, those that start at zero too, and fill the head code."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=gen) * (0.5 / max(p.shape[-1], 1) ** 0.5))
        if model.decoder.head_code is not None:
            head_code = model.decoder.head_code
            for buffer in head_code.buffers():
                buffer.copy_(0.01 * torch.randn(buffer.shape, generator=gen))
            head_code.mean_colors += 0.5
    return model.eval()


def paper_config() -> PercHeadConfig:
    """The paper's form at the tiny size: no guidance, no code, no estimate of the camera."""
    tiny = named_config("tiny")
    encoder = replace(tiny.encoder, stem="patchify", sees_alpha=False, estimates_camera=False)
    decoder = replace(
        tiny.decoder, dim=32, gaussian_dim=2, residual="paper", guidance="none", geometry_rank=0, color_rank=0,
        code_doubt=0.0, hair_cover=False, hair_grain=0.0,
    )  # fmt: skip
    return replace(tiny, name="tiny_paper", encoder=encoder, decoder=decoder, sharpener=None)


@pytest.fixture
def template() -> Template:
    return ball_template()


@pytest.fixture(params=["tiny", "tiny_paper"])
def config(request: pytest.FixtureRequest) -> PercHeadConfig:
    return paper_config() if request.param == "tiny_paper" else named_config("tiny")


@pytest.fixture
def untrained(config: PercHeadConfig, template: Template) -> PercHead:
    torch.manual_seed(0)
    return PercHead(config, template).eval()


@pytest.fixture
def model(untrained: PercHead) -> PercHead:
    """Every weight random: as if trained."""
    return randomise(untrained)


@pytest.fixture
def portraits() -> tuple[Tensor, Tensor]:
    """Two portraits whose foregrounds cover different numbers of patches."""
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    alpha = torch.zeros(2, 1, 64, 64)
    alpha[0, :, 16:, 16:48] = 1.0
    alpha[1, :, 32:, 32:] = 1.0
    return image * alpha, alpha
