"""The dual-branch image encoder: portrait in, fused foreground tokens out (paper, section 3.1 and appendix E).

A small trained ViT and a frozen backbone (several DINOv2 layers, injected) look at the same patches; their features
are concatenated and fused by an MLP, for foreground patches only.

Legend: B batch, S portrait side, I encoder input side, G patches a side, P kept patches, D width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import MissingWeightsError
from headlift.model.layers import Mlp, SelfAttentionBlock, area_resized, sine_positions
from headlift.model.passes import count_pass
from headlift.model.perchead.config import EncoderConfig, VitConfig
from headlift.model.types import ImageTokens


class Backbone(Protocol):
    """A frozen network that turns pictures into the patch features of several of its layers."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, I, I] in 0..1 -> for each chosen layer [B, G * G, D]; the backbone normalises colours itself."""
        ...


class VitBranch(nn.Module):
    """The trained branch: a small ViT without a class token."""

    def __init__(self, config: VitConfig, channels: int = 3) -> None:
        """Build with random weights; ``channels`` of what it looks at."""
        super().__init__()
        self.stem = _conv_stem(channels, config) if config.stem == "conv" else _patchify(channels, config)
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(config.grid, config.dim), persistent=False)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config.dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, channels, I, I] in 0..1 -> [B, G * G, D], row by row."""
        count_pass("trained_branch")
        x = self.stem(2 * pictures - 1).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class ImageEncoder(nn.Module):
    """Portraits to ``ImageTokens``.

    The backbone is held without being registered: it is frozen, moves and is stored on its own, and never enters this
    module's ``state_dict``.
    """

    def __init__(self, config: EncoderConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config
        self._backbone = (backbone,)  # a tuple hides it from nn.Module's registration
        self.vit = VitBranch(config)
        self.fuse = Mlp(config.backbone_dim + config.dim, config.fusion_dim, config.fusion_dim)

    def forward(
        self,
        image: Tensor,  # [B, 3, S, S] 0..1, multiplied by alpha
        alpha: Tensor,  # [B, 1, S, S] 0..1
    ) -> ImageTokens:
        """Tokens of the foreground patches.

        Raises:
            MissingWeightsError: There is no backbone.
        """
        side = self.config.image_size
        small, opacity = area_resized(image, side), area_resized(alpha, side)
        features = torch.cat([self.vit(small), *self._frozen_features(small)], -1)
        return fused_tokens(self.fuse, features, opacity, self.config)

    @torch.no_grad()
    def _frozen_features(self, pictures: Tensor) -> list[Tensor]:
        backbone = self._backbone[0]
        if backbone is None:
            raise MissingWeightsError(
                f"This model reads features of the frozen network {self.config.backbone}, and none was given; "
                "load it with headlift.pretrained.dinov2 and pass it as backbone."
            )
        return [f.to(pictures.dtype) for f in backbone(pictures)]


def fused_tokens(
    fuse: nn.Module,
    features: Tensor,  # [B, G * G, F] of both branches
    alpha: Tensor,  # [B, 1, I, I] 0..1
    config: VitConfig,
) -> ImageTokens:
    """Tokens of the foreground patches, fused by an MLP from F to D numbers."""
    index, mask = foreground_patches(alpha, config.patch_size, config.foreground_threshold)
    tokens = fuse(torch.take_along_dim(features, index[..., None], 1)) * mask[..., None]
    return ImageTokens(tokens, mask, patch_centers(index, config.grid))


def foreground_patches(
    alpha: Tensor,  # [B, 1, I, I] 0..1
    patch_size: int,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Which patches show something of the person.

    Returns:
        index [B, P]: row-major patch numbers, foreground first; P is the largest count in the batch.
        mask [B, P]: True where the entry is a foreground patch. Every row keeps at least one, its most opaque.
    """
    coverage = F.avg_pool2d(alpha.float(), patch_size).flatten(1)
    keep = coverage > threshold
    keep.scatter_(1, coverage.argmax(1, keepdim=True), True)
    count = keep.sum(1, keepdim=True)
    longest = int(count.max())
    index = (~keep).byte().argsort(dim=1, stable=True)[:, :longest]
    return index, torch.arange(longest, device=alpha.device) < count


def patch_centers(index: Tensor, grid: int) -> Tensor:
    """Row-major patch numbers [B, P] to centres [B, P, 2] in 0..1 of the crop (x, y)."""
    return torch.stack([index % grid, index // grid], -1).add(0.5) / grid


def token_grid(tokens: ImageTokens, grid: int) -> Tensor:
    """Foreground tokens back at their places: [B, D, grid, grid], zeros where there is no token."""
    batch, _, dim = tokens.tokens.shape
    column, row = (tokens.positions * grid).long().clamp(0, grid - 1).unbind(-1)
    slot = torch.where(tokens.mask, row * grid + column, grid * grid)  # padding goes to an extra slot, dropped below
    flat = tokens.tokens.new_zeros(batch, grid * grid + 1, dim)
    flat = flat.scatter(1, slot[..., None].expand(-1, -1, dim), tokens.tokens)
    return flat[:, :-1].transpose(1, 2).reshape(batch, dim, grid, grid)


def _patchify(channels: int, config: VitConfig) -> nn.Module:
    return nn.Conv2d(channels, config.dim, config.patch_size, config.patch_size)


def _conv_stem(channels: int, config: VitConfig) -> nn.Module:
    """Strided 3x3 convolutions down to the patch grid, each halving the side and doubling the width."""
    steps = config.patch_size.bit_length() - 1
    widths = [channels, *(max(8, config.dim >> (steps - 1 - i)) for i in range(steps))]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], config.dim, 1))
