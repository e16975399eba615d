"""The dual-branch image encoder: portrait in, fused foreground tokens out (paper, section 3.1 and appendix E).

A small trained ViT and a frozen backbone (several DINOv2 layers, injected) look at the same patches; their features
are concatenated and fused by an MLP, for foreground patches only. Models of ours add a head that reads the whole token
map and estimates the input camera and the head code.

Legend: B batch, S portrait side, I encoder input side, G patches a side, P kept patches, D width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import MissingWeightsError
from headlift.model.cameras import FRONTAL_POSE, POSE_DIM, cameras_from_pose
from headlift.model.config import EncoderConfig
from headlift.model.layers import Mlp, SelfAttentionBlock, full_precision, sine_positions, zero_init
from headlift.model.types import Cameras, ImageTokens

_POOL = 4  # the head reads the token map at this many cells a side


class Backbone(Protocol):
    """A frozen network that turns pictures into the patch features of several of its layers."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, I, I] in 0..1 -> for each chosen layer [B, G * G, D]; the backbone normalises colours itself."""
        ...


class VitBranch(nn.Module):
    """The trained branch: a small ViT without a class token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        channels = 4 if config.sees_alpha else 3
        self.stem = _conv_stem(channels, config) if config.stem == "conv" else _patchify(channels, config)
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(config.grid, config.dim), persistent=False)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config.dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3 or 4, I, I] in 0..1 -> [B, G * G, D], row by row."""
        x = self.stem(2 * pictures - 1).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class GlobalHead(nn.Module):
    """Reads the whole token map: the head code and the pose of the input camera."""

    def __init__(self, config: EncoderConfig, code_rank: int) -> None:
        super().__init__()
        self.grid, self.code_rank = config.grid, code_rank
        self.mlp = Mlp((_POOL * _POOL + 1) * config.dim, config.head_dim, code_rank + POSE_DIM)
        zero_init(self.mlp.fc2)
        with torch.no_grad():
            self.mlp.fc2.bias[code_rank:] = self.mlp.fc2.bias.new_tensor(FRONTAL_POSE)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B, G * G, D] -> code [B, K], pose [B, 9]; before training: zeros and the front camera."""
        grid = features.transpose(1, 2).reshape(len(features), -1, self.grid, self.grid)
        cells = F.adaptive_avg_pool2d(grid, _POOL).flatten(1)
        numbers = self.mlp(torch.cat([cells, features.mean(1)], -1)).float()
        return numbers[:, : self.code_rank], numbers[:, self.code_rank :]


class ThumbnailHead(nn.Module):
    """A first guess of code and pose, linear in fixed features of a small picture.

    Features: its principal components, random ReLU features of these (colour, hair, shape), and histograms of oriented
    gradients (Dalal and Triggs, CVPR 2005), which hardly depend on light and skin (pose). Everything that is learned
    has a closed form, so that the guess is good before any gradient step. Ours; silent until filled.
    """

    COMPONENTS = 256
    BINS = 8  # orientations, of half a turn
    CELL = 8  # pixels

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__()
        self.side, self.cells = config.thumbnail, config.gradient_cells
        pixels = 4 * self.side * self.side
        components = min(self.COMPONENTS, pixels)
        self.reduce = nn.Linear(pixels, components)
        self.expand = nn.Linear(components, config.thumbnail_features)
        self.out = nn.Linear(components + config.thumbnail_features + self.BINS * self.cells**2, width)
        zero_init(self.out)

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 4, S, S] RGB multiplied by alpha, and alpha -> what the guess is linear in, [B, f]."""
        components = self.reduce(_resize(pixels.float(), self.side).flatten(1))
        return torch.cat([components, F.relu(self.expand(components)), self.gradients(pixels.float())], -1)

    def gradients(self, pixels: Tensor) -> Tensor:
        """Histograms of oriented gradients over mid grey, normalised among neighbouring cells: [B, bins * cells^2]."""
        small = _resize(pixels, self.cells * self.CELL)
        grey = (small[:, :3].mean(1, keepdim=True) + 0.5 * (1 - small[:, 3:])).clamp_min(0).sqrt()
        padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
        dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        angle = torch.atan2(dy, dx) / torch.pi % 1 * self.BINS
        bins = torch.arange(self.BINS, device=pixels.device).view(1, -1, 1, 1)
        apart = (angle - bins).abs()
        share = (1 - torch.minimum(apart, self.BINS - apart)).clamp_min(0)
        cells = F.avg_pool2d(share * torch.hypot(dx, dy), self.CELL)
        energy = F.avg_pool2d(cells.square().sum(1, keepdim=True), 3, 1, 1)
        return (cells / (energy + 1e-4).sqrt()).flatten(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 4, S, S] -> [B, K + 9]."""
        with full_precision(pixels.device):
            out: Tensor = self.out(self.features(pixels))
            return out


class ImageEncoder(nn.Module):
    """Portraits to ``ImageTokens``.

    The backbone is held without being registered: it is frozen, moves and is stored on its own, and never enters this
    module's ``state_dict``.
    """

    def __init__(self, config: EncoderConfig, *, code_rank: int = 0, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config
        self._backbone = (backbone,)  # a tuple hides it from nn.Module's registration
        self.vit = VitBranch(config)
        self.fuse = Mlp(config.backbone_dim + config.dim, config.fusion_dim, config.fusion_dim)
        self.head = GlobalHead(config, code_rank) if config.estimates_camera or code_rank else None
        self.thumbnail_head = (
            ThumbnailHead(config, code_rank + POSE_DIM) if config.thumbnail and self.head is not None else None
        )

    def forward(
        self,
        image: Tensor,  # [B, 3, S, S] 0..1, multiplied by alpha
        alpha: Tensor,  # [B, 1, S, S] 0..1
        camera: Cameras | None = None,
    ) -> ImageTokens:
        """Tokens of the foreground patches; ``camera`` (C = B) takes the place of the estimate.

        Raises:
            MissingWeightsError: The config names a backbone and none was given.
        """
        pixels = torch.cat([image, alpha], 1)
        seen = _resize(pixels, self.config.image_size)
        trained = self.vit(seen if self.config.sees_alpha else seen[:, :3])
        features = torch.cat([trained, *self._frozen_features(seen[:, :3])], -1)
        index, mask = foreground_patches(seen[:, 3:], self.config.patch_size, self.config.foreground_threshold)
        tokens = self.fuse(torch.take_along_dim(features, index[..., None], 1)) * mask[..., None]
        code, pose = self._code_and_pose(trained, pixels)
        if camera is None and pose is not None and self.config.estimates_camera:
            with full_precision(pose.device):
                camera = cameras_from_pose(pose, image.shape[-1])
        return ImageTokens(tokens, mask, patch_centers(index, self.config.grid), code, camera, pixels, pose)

    def _code_and_pose(self, trained: Tensor, pixels: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The estimates [B, K] and [B, 9], for models that make them."""
        if self.head is None:
            return None, None
        code, pose = self.head(trained)
        if self.thumbnail_head is not None:
            guess = self.thumbnail_head(pixels)
            code, pose = code + guess[:, : code.shape[1]], pose + guess[:, code.shape[1] :]
        return code, pose

    @torch.no_grad()
    def _frozen_features(self, pictures: Tensor) -> list[Tensor]:
        if self.config.backbone is None:
            return []
        backbone = self._backbone[0]
        if backbone is None:
            raise MissingWeightsError(
                f"This model reads features of the frozen network {self.config.backbone}, and none was given; "
                "load it with headlift.pretrained.dinov2 and pass it as backbone."
            )
        return [f.to(pictures.dtype) for f in backbone(pictures)]


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


def _patchify(channels: int, config: EncoderConfig) -> nn.Module:
    return nn.Conv2d(channels, config.dim, config.patch_size, config.patch_size)


def _conv_stem(channels: int, config: EncoderConfig) -> nn.Module:
    """Strided 3x3 convolutions down to the patch grid, each halving the side and doubling the width."""
    steps = config.patch_size.bit_length() - 1
    widths = [channels, *(max(8, config.dim >> (steps - 1 - i)) for i in range(steps))]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], config.dim, 1))


def _resize(pictures: Tensor, side: int) -> Tensor:
    """Square pictures averaged to ``side`` pixels."""
    return pictures if pictures.shape[-1] == side else F.interpolate(pictures, (side, side), mode="area")
