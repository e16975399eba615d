"""Foreground patches, and only those, become tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from headlift.errors import MissingWeightsError
from headlift.model.perchead.config import EncoderConfig
from headlift.model.perchead.encoder import ImageEncoder, foreground_patches, patch_centers, token_grid
from headlift.model.perchead.model import PercHead
from headlift.model.types import ImageTokens

Portraits = tuple[Tensor, Tensor]


def with_backbone() -> EncoderConfig:
    return replace(
        EncoderConfig(),
        image_size=28,
        dim=8,
        num_heads=2,
        backbone="dinov2_vits14",
        backbone_layers=(2, 5),
        fusion_dim=16,
    )


class FrozenNetwork:
    """Two layers of features that depend on the picture."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        means = images.mean((1, 2, 3))[:, None, None]
        return [means.expand(-1, 4, 384), 2 * means.expand(-1, 4, 384)]


def test_rows_of_one_batch_may_differ_in_their_number_of_tokens(model: PercHead, portraits: Portraits) -> None:
    tokens = model.encode(*portraits)
    side = model.config.encoder.grid
    for alpha, count in zip(portraits[1], tokens.mask.sum(1), strict=True):
        covered = torch.nn.functional.avg_pool2d(alpha[None], 64 // side) > model.config.encoder.foreground_threshold
        assert int(count) == int(covered.sum())
    assert tokens.tokens.shape[1] == int(tokens.mask.sum(1).max()) > int(tokens.mask.sum(1).min())


def test_a_portrait_in_a_batch_gives_the_tokens_that_it_gives_alone(model: PercHead, portraits: Portraits) -> None:
    image, alpha = portraits
    batch = model.encode(image, alpha)
    for b in range(2):
        alone = model.encode(image[b : b + 1], alpha[b : b + 1])
        torch.testing.assert_close(batch.tokens[b][batch.mask[b]], alone.tokens[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(batch.positions[b][batch.mask[b]], alone.positions[0])


def test_an_empty_matte_keeps_one_patch(model: PercHead) -> None:
    tokens = model.encode(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))
    assert tokens.mask.tolist() == [[True]]
    assert torch.isfinite(model.decode(tokens)[0].means).all()


def test_foreground_patches_come_in_reading_order_with_their_centres() -> None:
    alpha = torch.zeros(2, 1, 8, 8)
    alpha[0, :, 4:] = 1
    alpha[1, :, 4:, 4:] = 1
    index, mask = foreground_patches(alpha, 4, 0.05)
    assert index[0].tolist() == [2, 3]
    assert index[1, 0].item() == 3
    assert mask.tolist() == [[True, True], [True, False]]
    assert patch_centers(index, 2)[0].tolist() == [[0.25, 0.75], [0.75, 0.75]]


def test_token_grid_puts_every_token_back_and_zeros_elsewhere() -> None:
    index, mask = torch.tensor([[1, 3], [2, 0]]), torch.tensor([[True, True], [True, False]])
    tokens = ImageTokens(torch.arange(1.0, 5).reshape(2, 2, 1), mask, patch_centers(index, 2))
    assert token_grid(tokens, 2).flatten(1).tolist() == [[0, 1, 0, 2], [0, 0, 3, 0]]


def test_frozen_features_reach_the_tokens_but_not_the_state_dict() -> None:
    encoder = ImageEncoder(with_backbone(), backbone=FrozenNetwork()).eval()
    tokens = encoder(torch.rand(2, 3, 28, 28), torch.ones(2, 1, 28, 28))
    assert tokens.tokens.shape == (2, 4, 16)
    assert encoder.fuse.fc1.in_features == 2 * 384 + 8
    assert all(name.startswith(("vit.", "fuse.")) for name in encoder.state_dict())


def test_a_frozen_module_is_not_registered_either() -> None:
    encoder = ImageEncoder(with_backbone(), backbone=torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    assert sum(p.numel() for p in encoder.parameters()) == sum(
        p.numel() for p in ImageEncoder(with_backbone()).parameters()
    )


def test_a_missing_backbone_is_named() -> None:
    with pytest.raises(MissingWeightsError, match="dinov2_vits14"):
        ImageEncoder(with_backbone())(torch.rand(1, 3, 28, 28), torch.ones(1, 1, 28, 28))


def test_no_gradient_reaches_the_picture_through_the_backbone_alone() -> None:
    encoder = ImageEncoder(with_backbone(), backbone=FrozenNetwork())
    with torch.no_grad():
        encoder.fuse.fc1.weight[:, :8] = 0  # the trained branch is deaf
    image = torch.rand(1, 3, 28, 28, requires_grad=True)
    encoder(image, torch.ones(1, 1, 28, 28)).tokens.sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0
