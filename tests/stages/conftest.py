"""A tiny editing stage with random weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from headlift.model.edit.model import EditModel, named_edit_config
from headlift.model.edit.style import StyleModel, Vocabulary, feature_width
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import named_config
from headlift.model.template import Template
from headlift.stages.edit import Edit, SmallClip

WORDS = Vocabulary(
    ("black", "hair", "red"),
    silent=("a",),
    traits=(("hair color", "red", ("red hair",)), ("hair color", "black", ("black hair",))),
)


def ball(n: int = 512) -> Template:
    generator = torch.Generator().manual_seed(0)
    poles = F.normalize(torch.randn(n // 16, 1, 3, generator=generator), dim=-1)
    normals = F.normalize(poles + 0.1 * torch.randn(n // 16, 16, 3, generator=generator), dim=-1).reshape(n, 3)
    return Template(
        anchors=0.09 * normals, normals=normals, spacing=torch.full((n,), 0.004),
        neighbors=(torch.arange(n)[:, None] + torch.arange(1, 9)) % n, mirror=torch.arange(n).flip(0),
        regions=torch.arange(n).remainder(5).to(torch.uint8), name="ball", sha256="0" * 64,
    )  # fmt: skip


def randomised(module: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.5 / max(p.shape[-1], 1) ** 0.5))


@pytest.fixture(scope="session")
def editor() -> tuple[EditModel, StyleModel]:
    torch.manual_seed(0)
    base = named_config("tiny")
    assert isinstance(base, MiniConfig)
    reconstruction = MiniHead(base, ball())
    randomised(reconstruction, 1)
    code, net = reconstruction.morphable, reconstruction.encoder.headnet
    for buffer in code.buffers():
        buffer.copy_(0.01 * torch.randn(buffer.shape))
    code.mean_colors += 0.5
    net.landmark_rows.copy_(torch.arange(12) * 7)
    config = named_edit_config("tiny")
    assert config.style is not None
    model = EditModel(config, reconstruction.eval().requires_grad_(False))
    randomised(model.encoder, 2)
    assert model.encoder.painter is not None
    with torch.no_grad():
        model.encoder.painter.class_colors.fc2.weight.mul_(20)  # looks that differ give colours that do
    style = StyleModel(config.style, WORDS, feature_width(net.config))
    style.traits.copy_(0.3 * torch.randn(2, 16, generator=torch.Generator().manual_seed(5)))
    return model.eval().requires_grad_(False), style.eval().requires_grad_(False)


@pytest.fixture
def stage(editor: tuple[EditModel, StyleModel]) -> Edit:
    model, style = editor
    return Edit(model, SmallClip(style, model), "tiny")
