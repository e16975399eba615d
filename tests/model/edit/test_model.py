"""The editing model: tokens where the map shows somebody, outlines as painted, geometry that no style moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift.model.edit.model import EDIT_CONFIGS, EditConfig, EditEncoder, EditModel, named_edit_config, one_hot
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import VitConfig
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config

SIDE = 64


def randomised(module: torch.nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.5 / max(p.shape[-1], 1) ** 0.5))


@pytest.fixture
def reconstruction(mini: MiniHead) -> MiniHead:
    model = mini
    randomised(model)
    code = model.morphable
    for buffer in code.buffers():
        buffer.copy_(0.01 * torch.randn(buffer.shape))
    code.mean_colors += 0.5
    model.encoder.headnet.landmark_rows.copy_(torch.arange(12) * 7)
    return model


@pytest.fixture
def editor(reconstruction: MiniHead) -> EditModel:
    torch.manual_seed(3)
    model = EditModel(named_edit_config("tiny"), reconstruction).eval()
    randomised(model.encoder, 4)
    return model


@pytest.fixture
def labels() -> Tensor:
    """A face under hair, and a bust without."""
    maps = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    maps[:, 20:50, 20:44] = 2
    maps[0, 8:24, 16:48] = 14
    maps[1, 50:, 8:56] = 3
    return maps


def styles(count: int = 2, dim: int = 16, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_tokens_lie_on_what_is_not_background(editor: EditModel, labels: Tensor) -> None:
    tokens = editor.encoder(labels, styles())
    assert tokens.tokens.shape[0] == 2
    assert not tokens.tokens[~tokens.mask].any()
    for row in range(2):
        for x, y in tokens.positions[row][tokens.mask[row]].tolist():
            cell = labels[row, int(y * SIDE) - 16 : int(y * SIDE) + 16, int(x * SIDE) - 16 : int(x * SIDE) + 16]
            assert cell.any()


def test_the_style_reaches_every_token(editor: EditModel, labels: Tensor) -> None:
    one, other = editor.encoder(labels, styles()), editor.encoder(labels, styles(seed=1))
    assert ((one.tokens - other.tokens).abs().amax(-1) > 0)[one.mask].all()


@torch.no_grad()
def test_the_outline_of_a_painting_is_the_maps(editor: EditModel, labels: Tensor) -> None:
    rgba = editor.encoder.paint(labels, styles(), SIDE)
    assert torch.equal(rgba[:, 3], (labels > 0).float())
    assert not rgba[:, :3][(labels == 0)[:, None].expand(-1, 3, -1, -1)].any()
    assert float(rgba.min()) >= 0
    assert float(rgba.max()) <= 1
    assert editor.encoder.paint(labels, styles(), 32).shape == (2, 4, 32, 32)


@torch.no_grad()
def test_geometry_follows_the_map_and_no_style(editor: EditModel, labels: Tensor) -> None:
    cameras = orbit_cameras([0.0, 20.0], width=SIDE, height=SIDE)
    rank = named_config("tiny").geometry_rank  # type: ignore[union-attr]
    shapes = [editor.encode(labels, styles(seed=s), cameras).observation for s in (0, 1)]
    assert shapes[0] is not None
    assert shapes[1] is not None
    assert torch.equal(shapes[0].code[:, :rank], shapes[1].code[:, :rank])
    fixed = editor.geometry(labels, cameras)
    assert fixed is not None
    assert torch.equal(fixed.code, shapes[0].code[:, :rank])
    wider = labels.clone()
    wider[:, :, 4:60] = 14
    moved = editor.geometry(wider, cameras)
    assert moved is not None
    assert not torch.allclose(fixed.code, moved.code)
    assert not torch.allclose(fixed.deformation, moved.deformation)


@torch.no_grad()
def test_maps_and_styles_become_whole_heads(editor: EditModel, labels: Tensor) -> None:
    heads = editor(labels, styles(), orbit_cameras([0.0, 0.0], width=SIDE, height=SIDE))
    assert len(heads) == 2
    for head in heads:
        assert len(head.validate()) == 512


@torch.no_grad()
def test_the_papers_form_gives_tokens_straight_to_the_decoder(paper: PercHead, labels: Tensor) -> None:
    reconstruction = paper
    randomised(reconstruction)
    geometry = VitConfig(image_size=32, patch_size=16, dim=32, depth=1, num_heads=2, fusion_dim=32)
    model = EditModel(EditConfig("tiny_paper", "tiny_paper", geometry, "ViT-B-32", map_size=SIDE), reconstruction)
    randomised(model.encoder, 5)
    camera = orbit_cameras([0.0, 0.0], width=SIDE, height=SIDE)
    heads = model(labels, styles(dim=512), camera)
    other = model(labels, styles(dim=512, seed=3), camera)
    assert len(heads[0].validate()) == 512
    assert not torch.allclose(heads[0].colors, other[0].colors)
    assert model.geometry(labels, camera) is None
    with pytest.raises(InvalidInputError, match="does not paint"):
        model.encoder.paint(labels, styles(dim=512))


def test_parts_that_do_not_fit_are_refused(reconstruction: MiniHead, editor: EditModel, labels: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="paint"):
        EditModel(EditConfig(), reconstruction)
    with pytest.raises(InvalidInputError, match="Styles are"):
        editor.encoder(labels, styles(dim=5))
    with pytest.raises(InvalidInputError, match="label 19"):
        one_hot(torch.full((1, 8, 8), 19, dtype=torch.uint8))
    with pytest.raises(InvalidInputError, match="must be"):
        one_hot(torch.zeros(8, 8, dtype=torch.uint8))
    with pytest.raises(InvalidInputError, match="clip or style"):
        EditConfig(clip=None)
    with pytest.raises(InvalidInputError, match="choose one of"):
        named_edit_config("huge")


@pytest.mark.parametrize("name", EDIT_CONFIGS)
def test_configs_survive_being_written_down(name: str) -> None:
    config = EDIT_CONFIGS[name]
    assert EditConfig.from_json(config.to_json()) == config


def test_the_papers_encoder_has_the_papers_shape() -> None:
    encoder = EditEncoder(replace(EDIT_CONFIGS["base"], map_size=64))
    assert (encoder.vit.stem.in_channels, encoder.vit.stem.kernel_size) == (19, (14, 14))
    assert len(encoder.vit.blocks) == 2
    assert encoder.fuse.fc1.in_features == 128 + 768
    assert encoder.fuse.fc2.out_features == named_config("base").encoder.fusion_dim
