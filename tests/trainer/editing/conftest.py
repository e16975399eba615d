"""A few drawn heads in the generator's layout, a tiny reconstruction model, and what the editor learns from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from headlift.model.cameras import orbit_cameras
from headlift.model.edit.model import named_edit_config
from headlift.model.edit.style import StyleModel, feature_width
from headlift.model.mini.config import MiniConfig
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import named_config
from headlift.model.template import Template
from headlift_trainer.editing.data import EditHeads, pack_sets
from headlift_trainer.editing.words import build_vocabulary
from headlift_trainer.synthetic.generate import path_of

SIZE, VIEWS = 64, 12
HAIR = {"red": (150, 40, 20), "black": (15, 15, 15), "blond": (210, 180, 110)}


def record(seed: int, color: str) -> dict[str, object]:
    return {
        "seed": seed, "maleness": 0.9 if seed % 2 else 0.1, "age_years": 25 + 10 * (seed % 4), "hair_style": "short",
        "hair_length": "short", "hair_curl": "straight", "hair_color_name": color, "beard": "none", "glasses": "none",
        "hat": "none", "skin_albedo": [0.4, 0.3, 0.2], "cloth_color": "blue", "makeup": "none",
    }  # fmt: skip


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads whose face, hair and shirt are flat colours; seeds 0..3 are held out, 1000..1011 are not."""
    folder = tmp_path_factory.mktemp("heads")
    cameras = orbit_cameras(np.linspace(-40, 40, VIEWS).tolist(), width=SIZE, height=SIZE)
    for number, seed in enumerate([*range(4), *range(1000, 1012)]):
        color = list(HAIR)[number % 3]
        classes = np.zeros((VIEWS, SIZE, SIZE), np.uint8)
        classes[:, 46:, 10:54] = 3
        classes[:, 18:50, 20:44] = 2
        classes[:, 10:22, 18:46] = 14
        rgba = np.zeros((VIEWS, SIZE, SIZE, 4), np.uint8)
        for label, paint in ((3, (20, 40, 160)), (2, (190, 140, 110)), (14, HAIR[color])):
            rgba[classes == label] = (*paint, 255)
        np.savez(
            path_of(folder, seed, 0), rgba=rgba, classes=classes, viewmats=cameras.viewmats.numpy(),
            Ks=cameras.Ks.numpy(), attributes=np.array([json.dumps(record(seed, color))]),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def reconstruction() -> MiniHead:
    n = 512
    generator = torch.Generator().manual_seed(0)
    poles = F.normalize(torch.randn(n // 16, 1, 3, generator=generator), dim=-1)
    normals = F.normalize(poles + 0.1 * torch.randn(n // 16, 16, 3, generator=generator), dim=-1).reshape(n, 3)
    template = Template(
        anchors=0.09 * normals, normals=normals, spacing=torch.full((n,), 0.01),
        neighbors=(torch.arange(n)[:, None] + torch.arange(1, 9)) % n, mirror=torch.arange(n).flip(0),
        regions=torch.arange(n).remainder(5).to(torch.uint8), name="ball", sha256="0" * 64,
    )  # fmt: skip
    torch.manual_seed(0)
    tiny = named_config("tiny")
    assert isinstance(tiny, MiniConfig)
    model = MiniHead(tiny, template).eval().requires_grad_(False)
    code, net = model.morphable, model.encoder.headnet
    code.geometry_basis.copy_(0.005 * torch.randn(code.geometry_basis.shape))
    code.color_basis.copy_(0.05 * torch.randn(code.color_basis.shape))
    net.landmark_rows.copy_(torch.arange(12) * 7)
    return model


@pytest.fixture(scope="session")
def sets(
    shards: Path, reconstruction: MiniHead, tmp_path_factory: pytest.TempPathFactory
) -> tuple[EditHeads, EditHeads]:
    assert reconstruction.encoder.headnet is not None
    return pack_sets(shards, reconstruction.encoder.headnet, tmp_path_factory.mktemp("packed"))


@pytest.fixture
def style(sets: tuple[EditHeads, EditHeads], reconstruction: MiniHead) -> StyleModel:
    config, headnet = named_edit_config("tiny").style, reconstruction.config.encoder.headnet
    assert config is not None
    assert headnet is not None
    torch.manual_seed(0)
    return StyleModel(config, build_vocabulary(sets[0].records), feature_width(headnet))
