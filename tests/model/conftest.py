"""Small templates and models: 32 patches of 16 on a ball, in the paper's form and in mini's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import DecoderConfig, EncoderConfig, PercHeadConfig
from headlift.model.perchead.encoder import Backbone
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import HeadModel, HeadModelConfig, build_model, named_config
from headlift.model.template import Template


class FrozenNetwork:
    """Stands for DINOv2-S: two layers whose features are those of each patch's mean colour."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        colors = F.avg_pool2d(images, 14).flatten(2).mT
        directions = torch.randn(2, 3, 384, generator=torch.Generator().manual_seed(7))
        return [colors @ d for d in directions]


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


def randomise(model: HeadModel, seed: int = 1) -> None:
    """Give every weight a value, those that start at zero too, and fill the morphable head."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=gen) * (0.5 / max(p.shape[-1], 1) ** 0.5))
        if isinstance(model, MiniHead):
            for buffer in model.morphable.buffers():
                buffer.copy_(0.01 * torch.randn(buffer.shape, generator=gen))
            model.morphable.mean_colors += 0.5


@pytest.fixture
def template() -> Template:
    return ball_template()


@pytest.fixture
def backbone() -> Backbone:
    return FrozenNetwork()


@pytest.fixture
def paper_config() -> PercHeadConfig:
    """The paper's form at the size of ``tiny``."""
    encoder = EncoderConfig(
        image_size=56, dim=32, depth=1, num_heads=2, backbone="dinov2_vits14", backbone_layers=(2, 5), fusion_dim=32
    )
    decoder = DecoderConfig(dim=32, depth=2, num_heads=2, num_patches=32, gaussian_dim=2, s_init=0.4, s_max=0.08)
    return PercHeadConfig("tiny_paper", 64, encoder, decoder, sharpener=None)


@pytest.fixture
def mini_config() -> MiniConfig:
    config = named_config("tiny")
    assert isinstance(config, MiniConfig)
    return config


@pytest.fixture
def paper(paper_config: PercHeadConfig, template: Template, backbone: Backbone) -> PercHead:
    """Untrained."""
    torch.manual_seed(0)
    return PercHead(paper_config, template, backbone).eval()


@pytest.fixture
def mini(mini_config: MiniConfig, template: Template) -> MiniHead:
    """Untrained."""
    torch.manual_seed(0)
    return MiniHead(mini_config, template).eval()


@pytest.fixture(params=["mini", "paper"])
def config(request: pytest.FixtureRequest) -> HeadModelConfig:
    """Of either kind; folders narrow it to theirs."""
    found: HeadModelConfig = request.getfixturevalue(f"{request.param}_config")
    return found


@pytest.fixture
def untrained(config: HeadModelConfig, template: Template, backbone: Backbone) -> HeadModel:
    torch.manual_seed(0)
    return build_model(config, template, backbone if isinstance(config, PercHeadConfig) else None).eval()


@pytest.fixture
def model(untrained: HeadModel) -> HeadModel:
    """Every weight random: as if trained."""
    randomise(untrained)
    return untrained


@pytest.fixture
def portraits() -> tuple[Tensor, Tensor]:
    """Two portraits whose foregrounds cover different numbers of patches."""
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    alpha = torch.zeros(2, 1, 64, 64)
    alpha[0, :, 16:, 16:48] = 1.0
    alpha[1, :, 32:, 32:] = 1.0
    return image * alpha, alpha
