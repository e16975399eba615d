"""The sharpening CNN, SHP-CNN (paper, section 3.1): sharper rendered views, no new details.

Legend: C pictures, H W pixels, r unshuffle factor.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.layers import zero_init
from headlift.model.perchead.config import SharpenerConfig


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[C, channels, H, W] -> the same shape."""
        out: Tensor = F.relu(x + self.second(F.relu(self.first(x))))
        return out


class Sharpener(nn.Module):
    """Looks at a picture's low and high frequencies and subtracts a learned residual from the low ones.

    The paper's output is I_b - R, with I_b the blurred picture. Here R = net(x) - (I - I_b), which spans the same
    functions and gives the output I - net(x): with its last layer at zero an untrained sharpener changes nothing.
    """

    def __init__(self, config: SharpenerConfig) -> None:
        super().__init__()
        self.config = config
        folded = config.unshuffle**2
        self.kernel: Tensor
        self.register_buffer("kernel", gaussian_kernel(config.blur_sigma), persistent=False)
        self.first = nn.Conv2d(6 * folded, config.channels, 3, padding=1)
        self.blocks = nn.ModuleList(ConvBlock(config.channels) for _ in range(config.depth // 2))
        self.last = nn.Conv2d(config.channels, 3 * folded, 3, padding=1)
        zero_init(self.last)
        self.to(memory_format=torch.channels_last)  # a third faster on CPU

    def forward(self, pictures: Tensor) -> Tensor:
        """[C, 3, H, W] in 0..1, any H and W -> the same shape, not clamped."""
        height, width = pictures.shape[-2:]
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        blurred = self.blur(pictures)
        bands = self._pad(torch.cat([blurred, pictures - blurred], 1))
        x = F.relu(self.first(F.pixel_unshuffle(bands, self.config.unshuffle)))
        skip = x
        for block in self.blocks:
            x = block(x)
        residual = F.pixel_shuffle(self.last(x + skip), self.config.unshuffle)
        return pictures - residual[..., :height, :width]

    def blur(self, pictures: Tensor) -> Tensor:
        """Gaussian blur, one axis after the other; edges repeat."""
        radius = len(self.kernel) // 2
        taps = self.kernel.to(pictures.dtype).expand(3, 1, -1)
        padded = F.pad(pictures, (radius, radius, radius, radius), mode="replicate")
        rows = F.conv2d(padded, taps[:, :, None, :], groups=3)
        return F.conv2d(rows, taps[:, :, :, None], groups=3)

    def _pad(self, pictures: Tensor) -> Tensor:
        """Repeat the last row and column until the sides are multiples of the unshuffle factor."""
        down, right = (-side % self.config.unshuffle for side in pictures.shape[-2:])
        return F.pad(pictures, (0, right, 0, down), mode="replicate") if down or right else pictures


def sharpened(sharpener: Sharpener | None, rgb: Tensor) -> Tensor:
    """Pictures [C, 3, H, W] in 0..1, sharpened and clamped to 0..1; as they are without a sharpener."""
    if sharpener is None:
        return rgb
    out: Tensor = sharpener(rgb)
    return out.clamp(0, 1)


def gaussian_kernel(sigma: float) -> Tensor:
    """Normalised taps of a Gaussian out to three sigma."""
    radius = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma).square())
    return taps / taps.sum()
