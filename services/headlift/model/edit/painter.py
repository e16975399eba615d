"""From a map and a style to a portrait that could have had them (ours): what small editing models give their encoder.

Each class has a colour that follows from the style alone; a small U-Net over the map, modulated by the style (FiLM,
Perez et al., AAAI 2018) and fed with ViT-Geom's tokens, adds light, strands and detail. Outlines are the map's own, at
any size.

Legend: B batch, S side of the painting, G tokens a side, D width of the style.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.layers import Mlp, resized, zero_init
from headlift.model.mini.headnet import NUM_CLASSES

_FACE, _SKIN = 2, [1, 4, 5, 10]  # neck, ears and nose have the face's colour, or nearly
_SKIN_RANGE = 0.5  # logits by which they may differ


@dataclass(frozen=True)
class PainterConfig:
    """Numbers of the painter."""

    side: int = 128  # pixels; eight times or sixteen times the tokens' grid
    widths: tuple[int, int, int] = (24, 48, 96)  # channels at strides 2, 4 and 8
    ups: tuple[int, int, int] = (64, 48, 32)  # channels on the way back, at strides 8, 4 and 2
    color_hidden: int = 128

    def __post_init__(self) -> None:
        if self.side < 16 or self.side % 16:
            raise InvalidInputError(f"side is {self.side}; it must be a multiple of 16.", field="side")


class Modulated(nn.Module):
    """A 3x3 convolution whose channels the style scales and shifts."""

    def __init__(self, channels: int, width: int, style_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, 1, 1)
        self.norm = nn.GroupNorm(1, width)
        self.film = nn.Linear(style_dim, 2 * width)
        zero_init(self.film)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """[B, c, h, w] and styles [B, D] -> [B, width, h, w]."""
        scale, shift = self.film(style)[..., None, None].chunk(2, 1)
        out: Tensor = F.gelu(self.norm(self.conv(x)) * (1 + scale) + shift)
        return out


class Painter(nn.Module):
    """Map, style and tokens to colours."""

    def __init__(self, config: PainterConfig, token_dim: int, style_dim: int) -> None:
        super().__init__()
        self.config = config
        first, second, third = config.widths
        self.class_colors = Mlp(style_dim, config.color_hidden, 3 * NUM_CLASSES)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(1, b), nn.GELU())
            for a, b in ((NUM_CLASSES, first), (first, second), (second, third))
        )
        self.from_tokens = nn.Conv2d(token_dim, third, 1)
        a, b, c = config.ups
        self.up = nn.ModuleList(
            Modulated(i, o, style_dim) for i, o in ((2 * third, a), (a + second, b), (b + first, c))
        )
        self.out = nn.Conv2d(c, 12, 3, 1, 1)
        zero_init(self.out)

    def palette(self, style: Tensor) -> Tensor:
        """The colour of each class that styles [B, D] ask for, logits [B, 19, 3].

        Neck, ears and nose go with the face: styles that no picture ever had must not give it a red nose.
        """
        colors = self.class_colors(style).unflatten(-1, (NUM_CLASSES, 3)).float()
        skin = colors[:, _FACE, None] + _SKIN_RANGE * torch.tanh(colors[:, _SKIN])
        index = torch.tensor(_SKIN, device=colors.device)
        palette: Tensor = colors.index_copy(1, index, skin)
        return palette

    def forward(self, maps: Tensor, style: Tensor, tokens: Tensor, size: int | None = None) -> Tensor:
        """Straight colours [B, 3, size, size] in 0..1.

        Args:
            maps: [B, 19, h, h] soft one-hot, at least ``size`` a side.
            style: [B, D] unit styles.
            tokens: [B, token_dim, G, G] of the same map and style.
            size: Of the answer, pixels; None is the painter's own side.
        """
        side = self.config.side
        size = size or side
        x, skips = resized(maps, side), []
        for step in self.down:
            x = step(x)
            skips.append(x)
        y = _sized(self.from_tokens(tokens), x.shape[-1])
        for step, skip in zip(self.up, reversed(skips), strict=True):
            y = step(torch.cat([_sized(y, skip.shape[-1]), skip], 1), style)
        detail = _sized(F.pixel_shuffle(self.out(y), 2), size)
        flat = torch.einsum("bchw,bcd->bdhw", resized(maps, size), self.palette(style))
        return (flat + detail).float().sigmoid()


def _sized(x: Tensor, side: int) -> Tensor:
    return x if x.shape[-1] == side else F.interpolate(x, (side, side), mode="bilinear")
