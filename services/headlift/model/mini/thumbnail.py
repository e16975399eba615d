"""A first guess of head code and camera from a small picture, good before any gradient step.

Legend: B batch, S portrait side, K head code numbers, f features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.cameras import FRONTAL_POSE, POSE_DIM
from headlift.model.layers import area_resized, full_precision, zero_init
from headlift.model.mini.config import MiniEncoderConfig

_POSE_CLAMP = 1.5  # of a guessed camera: shift in crop widths, and logarithm of its distance over the usual one


class ThumbnailHead(nn.Module):
    """A guess that is linear in fixed features of a small picture.

    Features: its principal components, random ReLU features of these (colour, hair, shape), histograms of oriented
    gradients (Dalal and Triggs, CVPR 2005), which hardly depend on light and skin (pose), and HeadNet's summary.
    Everything that is learned has a closed form. Ours; silent until filled.
    """

    COMPONENTS = 256
    BINS = 8  # orientations, of half a turn
    CELL = 8  # pixels

    def __init__(self, config: MiniEncoderConfig, code_rank: int, summary_dim: int) -> None:
        super().__init__()
        self.side, self.cells, self.code_rank = config.thumbnail, config.gradient_cells, code_rank
        pixels, width = 4 * self.side * self.side, code_rank + POSE_DIM
        components = min(self.COMPONENTS, pixels)
        self.reduce = nn.Linear(pixels, components)
        self.expand = nn.Linear(components, config.thumbnail_features)
        gradients = self.BINS * self.cells**2
        self.out = nn.Linear(components + config.thumbnail_features + gradients + summary_dim, width)
        zero_init(self.out)
        self.error: Tensor  # [K + 9] standard error of each number, on pictures that the fit has not seen
        self.register_buffer("error", torch.ones(width))

    def features(self, pixels: Tensor, summary: Tensor) -> Tensor:
        """What the guess is linear in, [B, f].

        Args:
            pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha.
            summary: [B, m] what HeadNet says of the picture.
        """
        components = self.reduce(area_resized(pixels.float(), self.side).flatten(1))
        rest = (F.relu(self.expand(components)), self.gradients(pixels.float()), summary.float())
        return torch.cat([components, *rest], -1)

    def gradients(self, pixels: Tensor) -> Tensor:
        """Histograms of oriented gradients over mid grey, normalised among neighbouring cells: [B, bins * cells^2]."""
        small = area_resized(pixels, self.cells * self.CELL)
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

    def forward(self, pixels: Tensor, summary: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 4, S, S] and HeadNet's summary -> head code [B, K] and camera pose [B, 9]."""
        with full_precision(pixels.device):
            numbers = self.out(self.features(pixels, summary))
            code, pose = numbers[:, : self.code_rank], numbers[:, self.code_rank :]
            pose = pose + pose.new_tensor(FRONTAL_POSE)
            # A regression that sees what it never saw may put the camera into the head or out of sight.
            return code, torch.cat([pose[:, :6], pose[:, 6:].clamp(-_POSE_CLAMP, _POSE_CLAMP)], -1)
