"""The dual-branch image encoder: portrait in, fused foreground tokens out (paper, section 3.1 and appendix E).

A small trained ViT and a frozen backbone (several DINOv2 layers, injected) look at the same patches; their features
are concatenated and fused by an MLP, for foreground patches only. Models of ours add a head that reads the whole token
map and estimates the input camera and the head code.

Legend: B batch, S portrait side, I encoder input side, G patches a side, P kept patches, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import MissingWeightsError
from headlift.model.cameras import FRONTAL_POSE, POSE_DIM, cameras_from_pose
from headlift.model.config import EncoderConfig, HeadNetConfig
from headlift.model.headnet import HeadNet, HeadNetOutput
from headlift.model.landmark_fit import LandmarkErrors
from headlift.model.layers import Mlp, SelfAttentionBlock, full_precision, sine_positions, zero_init
from headlift.model.passes import count_pass
from headlift.model.surfaces import grouped
from headlift.model.types import Cameras, ImageTokens

_FURTHEST = 1.5  # of a guessed camera: shift in crop widths, and logarithm of its distance over the usual one
_POOL = 4  # the head reads the token map at this many cells a side


class Backbone(Protocol):
    """A frozen network that turns pictures into the patch features of several of its layers."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, I, I] in 0..1 -> for each chosen layer [B, G * G, D]; the backbone normalises colours itself."""
        ...


class VitBranch(nn.Module):
    """The trained branch: a small ViT without a class token."""

    def __init__(self, config: EncoderConfig, channels: int | None = None) -> None:
        """Build with random weights; ``channels`` of what it looks at, where that is no picture."""
        super().__init__()
        channels = channels or (4 if config.sees_alpha else 3)
        self.stem = _conv_stem(channels, config) if config.stem == "conv" else _patchify(channels, config)
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(config.grid, config.dim), persistent=False)
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config.dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, channels, I, I] in 0..1 -> [B, G * G, D], row by row."""
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
        told = summary_width(config.headnet) if config.headnet is not None else 0
        self.out = nn.Linear(components + config.thumbnail_features + self.BINS * self.cells**2 + told, width)
        zero_init(self.out)
        self.error: Tensor | None  # [K + 9] standard error of each number, on pictures that the fit has not seen
        self.register_buffer("error", torch.ones(width) if config.headnet is not None else None)

    def features(self, pixels: Tensor, summary: Tensor | None = None) -> Tensor:
        """What the guess is linear in, [B, f].

        Args:
            pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha.
            summary: [B, m] what HeadNet says of the picture, for models that have one.
        """
        components = self.reduce(_resize(pixels.float(), self.side).flatten(1))
        told = [] if summary is None else [summary.float()]
        return torch.cat([components, F.relu(self.expand(components)), self.gradients(pixels.float()), *told], -1)

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

    def forward(self, pixels: Tensor, summary: Tensor | None = None) -> Tensor:
        """[B, 4, S, S] and HeadNet's summary -> [B, K + 9]."""
        with full_precision(pixels.device):
            out: Tensor = self.out(self.features(pixels, summary))
            return out


def summary_width(config: HeadNetConfig) -> int:
    """Numbers in `summarise`."""
    return (_POOL * _POOL + 1) * config.dim + 2 * config.landmarks + POSE_DIM


def summarise(said: HeadNetOutput, last: Tensor) -> Tensor:
    """What HeadNet says of whole pictures, as plain numbers: pooled tokens [B, 1 + G * G, D], landmarks, pose."""
    side = math.isqrt(last.shape[1] - 1)
    grid = last[:, 1:].transpose(1, 2).reshape(len(last), -1, side, side)
    cells = F.adaptive_avg_pool2d(grid, _POOL).flatten(1)
    return torch.cat([cells, last[:, 0], said.landmarks.flatten(1), said.pose], -1).float()


@dataclass(frozen=True)
class Sight:
    """What HeadNet saw, for the encoder and for the fit of camera and shape."""

    tokens: list[Tensor]  # of the chosen layers, [B, G * G, D] each
    summary: Tensor  # [B, m]
    landmarks: Tensor  # [B, L, 2]
    spread: Tensor  # [B, L]
    shown: Tensor  # [B, 6, h, h]


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
        self.headnet = HeadNet(config.headnet).requires_grad_(False) if config.headnet is not None else None
        self.landmark_errors = LandmarkErrors(config.headnet.landmarks) if config.headnet is not None else None
        self.fuse = Mlp(config.backbone_dim + config.dim, config.fusion_dim, config.fusion_dim)
        self.code_rank = code_rank
        estimates = config.estimates_camera or code_rank > 0
        # Beside HeadNet's summary the global head has nothing to add that a few thousand samples could teach it.
        self.head = GlobalHead(config, code_rank) if estimates and config.headnet is None else None
        self.thumbnail_head = ThumbnailHead(config, code_rank + POSE_DIM) if config.thumbnail and estimates else None

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
        return self.look(image, alpha, camera)[0]

    def look(self, image: Tensor, alpha: Tensor, camera: Cameras | None = None) -> tuple[ImageTokens, Sight | None]:
        """As ``forward``, and what HeadNet saw, for models that have one."""
        pixels = torch.cat([image, alpha], 1)
        seen = _resize(pixels, self.config.image_size)
        count_pass("trained_branch")
        trained = self.vit(seen if self.config.sees_alpha else seen[:, :3])
        sight = self.see(seen[:, :3])
        frozen = self._frozen_features(seen[:, :3]) + (sight.tokens if sight is not None else [])
        features = torch.cat([trained, *frozen], -1)
        index, mask = foreground_patches(seen[:, 3:], self.config.patch_size, self.config.foreground_threshold)
        tokens = self.fuse(torch.take_along_dim(features, index[..., None], 1)) * mask[..., None]
        code, pose = self._code_and_pose(trained, pixels, sight)
        if camera is None and pose is not None and self.config.estimates_camera:
            with full_precision(pose.device):
                camera = cameras_from_pose(pose, image.shape[-1])
        shown = sight.shown if sight is not None else None
        answer = ImageTokens(tokens, mask, patch_centers(index, self.config.grid), code, camera, pixels, pose, shown)
        return answer, sight

    @torch.no_grad()
    def see(self, pictures: Tensor) -> Sight | None:
        """What HeadNet sees in pictures [B, 3, I, I]; None for models without one."""
        if self.headnet is None:
            return None
        said, layers = self.headnet.read(pictures)
        tokens = [layers[i][:, 1:] for i in self.config.headnet_layers]
        shown = grouped(said.parsing.float().softmax(1))
        return Sight(tokens, summarise(said, layers[-1]), said.landmarks, said.spread, shown)

    def _code_and_pose(
        self, trained: Tensor, pixels: Tensor, sight: Sight | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """The estimates [B, K] and [B, 9], for models that make them."""
        numbers = trained.new_zeros(len(trained), self.code_rank + POSE_DIM).float()
        if self.head is None and self.thumbnail_head is None:
            return None, None
        if self.head is not None:
            numbers = torch.cat(self.head(trained), -1)
        if self.thumbnail_head is not None:
            numbers = numbers + self.thumbnail_head(pixels, None if sight is None else sight.summary)
        if self.head is None:  # the thumbnail head's pose is relative to the front camera, as the global head's start
            front = numbers.new_tensor(FRONTAL_POSE)
            numbers = torch.cat([numbers[:, : self.code_rank], numbers[:, self.code_rank :] + front], -1)
        pose = numbers[:, self.code_rank :]
        # A regression that sees what it never saw may put the camera into the head or out of sight: no camera is there.
        pose = torch.cat([pose[:, :6], pose[:, 6:].clamp(-_FURTHEST, _FURTHEST)], -1)
        return numbers[:, : self.code_rank], pose

    @torch.no_grad()
    def _frozen_features(self, pictures: Tensor) -> list[Tensor]:
        if self.config.backbone is None:
            return []
        backbone = self._backbone[0]
        if backbone is None:
            raise MissingWeightsError(
                f"This model reads features of the frozen network {self.config.backbone}, and none was given; "
                "load it with headlift.pretrained.dinov2 and pass it as backbone (headlift.weights.loading does both)."
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
