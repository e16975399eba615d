"""Hair that is not seen: the colour of the hair that is, and strands that fall from the crown, as contrasty as its own.

A mean over all hair that could be there is a smooth shell, which no eye takes for hair. What is certain about the
hidden hair is its statistics: it consists of strands, it falls from the crown, and its strands differ as much in colour
as the visible ones do. So the template carries a fixed pattern of strands, and the picture says how strong it is. Ours.

Legend: B batch, N anchors.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from headlift.model.mini.parsing_groups import ParsingGroup
from headlift.model.mini.projection import ProjectedImage, ProjectedSample

_CENTER, _CROWN = (0.0, 0.03, -0.02), (0.0, 0.92, -0.39)  # m, and a direction
# Noise: cells a radian round the crown, cells a radian along the strand, strength. The finest is two anchors wide.
_STRANDS = ((9.0, 2.0, 0.6), (19.0, 3.5, 1.0), (34.0, 5.0, 0.9))
_WAVE = 0.06  # radians that strands swing sideways
_MIN_CONFIDENCE = 0.7  # probability from which a pixel is surely hair ...
_MIN_ALPHA = 0.9  # ... and alpha, for its colour ...
_STRAND_MIN_ALPHA = 0.95  # ... and for its strands, which a soft edge would look like
_SHARE_PRIOR = 0.003  # of the picture that must be hair before its colour is half believed
_TRUST = 0.7  # how far hidden hair follows seen hair; all the way costs .2 dB at the back, where light differs
_WINDOW = 9  # parsing cells, about three centimetres: coarser than this is light, not strands


def hair_grain(anchors: Tensor, hairy: Tensor) -> Tensor:
    """The pattern: zero mean and unit variance on hair anchors, and its continuation elsewhere.

    Args:
        anchors: [N, 3] m, canonical. hairy: [N, 1] 0 or 1.

    Returns:
        [N, 1].
    """
    if anchors.is_meta:  # a model that is only counted
        return torch.empty_like(hairy)
    up = np.array(_CROWN) / np.linalg.norm(_CROWN)
    right = np.array([1.0, 0.0, 0.0])
    back = np.cross(right, up)
    way = anchors.detach().cpu().double().numpy() - np.array(_CENTER)
    way /= np.linalg.norm(way, axis=1, keepdims=True).clip(1e-9)
    along = np.arccos((way @ up).clip(-1, 1))
    around = np.arctan2(way @ back, way @ right)
    around = around + _WAVE * _noise(_on_circle(around, 2.0, along * 4.0), seed=1)
    layers = [w * _noise(_on_circle(around, k, along * m), seed=i + 2) for i, (k, m, w) in enumerate(_STRANDS)]
    pattern = torch.as_tensor(np.sum(layers, 0), dtype=torch.float32, device=anchors.device)[:, None]
    mean = (pattern * hairy).sum() / hairy.sum().clamp_min(1)
    centred = pattern - mean
    return centred / ((centred.square() * hairy).sum() / hairy.sum().clamp_min(1)).sqrt().clamp_min(1e-6)


@torch.no_grad()
def hair_contrast(pixels: Tensor, parsing: Tensor) -> Tensor:
    """How much the strands of the visible hair differ in colour: [B, 3], of one standard deviation of brightness.

    Args:
        pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha. parsing: [B, 6, h, h] 0..1.
    """
    side = 2 * parsing.shape[-1]
    small = F.interpolate(pixels.float(), (side, side), mode="area")
    hair = F.interpolate(
        parsing[:, ParsingGroup.HAIR, None].float(), (side, side), mode="bilinear", align_corners=False
    )
    weight = ((hair > _MIN_CONFIDENCE) & (small[:, 3:] > _STRAND_MIN_ALPHA)).float()
    window = 2 * _WINDOW + 1
    local = F.avg_pool2d(weight * small[:, :3], window, 1, _WINDOW)
    local = local / F.avg_pool2d(weight, window, 1, _WINDOW).clamp_min(1e-3)
    rough = weight * (small[:, :3] - local)
    bright = rough.mean(1, keepdim=True)
    total = weight.sum((2, 3)) + 1.0
    deviation = (bright.square().sum((2, 3)) / total).sqrt()
    return (rough * bright).sum((2, 3)) / total / deviation.clamp_min(1e-3)


@torch.no_grad()
def hair_color(pixels: Tensor, parsing: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour of what a parsed picture surely shows as hair, [B, 3], and its share of the picture, [B, 1].

    Args:
        pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha. parsing: [B, 6, h, h] 0..1.
    """
    hair = parsing[:, ParsingGroup.HAIR, None].float()
    small = F.interpolate(pixels.float(), hair.shape[-2:], mode="area")
    weight = hair * (hair > _MIN_CONFIDENCE) * (small[:, 3:] > _MIN_ALPHA)
    total = weight.sum((2, 3))
    color = (weight * small[:, :3] / small[:, 3:].clamp_min(_MIN_ALPHA)).sum((2, 3)) / total.clamp_min(1e-3)
    return color, total / weight[0].numel()


def hidden_hair_colors(
    colors: Tensor,  # [B, N, 3] of the morphable head
    image: ProjectedImage,
    sample: ProjectedSample,  # of the looked-up Gaussians, [B, m]
    rows: Tensor,  # [m] which they are
    area: Tensor,  # [m, 1] of each against the mean
    hairy: Tensor,  # [N, 1] 1 where the template wears hair
    cover: Tensor,  # [B, N, 1] how far this head's hair covers each
    grain: Tensor,  # [N, 1] hair_grain
    grain_strength: float,  # of its strands, over those that are seen
) -> Tensor:
    """Colours [B, N, 3] with hidden hair in the tone and with the strands of the hair that is seen.

    What the morphable head cannot explain of the hair as a whole goes to the hair that is hidden: hair comes in more
    colours than a few components hold, and its back has the colour of its front.
    """
    hidden = (1 - sample.weight) * (hairy * cover)[:, rows] * area
    mean = ((hidden * colors[:, rows].detach()).sum(1) / hidden.sum(1).clamp_min(1e-6))[:, None]
    color, share = hair_color(image.pixels, image.parsing)
    tint = (_TRUST * share / (share + _SHARE_PRIOR))[:, None] * (color[:, None] - mean)
    # Where long hair hangs over neck and shoulders they have the hair's colour, whatever theirs would be.
    colors = torch.lerp(colors, mean, cover * (1 - hairy)) + tint * cover
    strands = grain_strength * hair_contrast(image.pixels, image.parsing)
    return colors + strands[:, None] * grain * cover


def _on_circle(angle: NDArray[np.float64], cells: float, along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places [N, 3] for noise that closes around the crown."""
    return np.stack([cells * np.cos(angle), cells * np.sin(angle), along], 1)


def _noise(places: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Smooth value noise, [N] in -1..1, of places [N, 3] in cells."""
    table = np.random.default_rng(seed).uniform(-1, 1, 4096)
    cell = np.floor(places).astype(np.int64)
    share = places - cell
    share = share * share * (3 - 2 * share)
    total = np.zeros(len(places))
    for corner in range(8):
        bits = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
        index = (cell + bits) @ np.array([73_856_093, 19_349_663, 83_492_791])
        x, y, z = np.where(bits, share, 1 - share).T
        total += x * y * z * table[(index ^ (index >> 13)) % len(table)]
    return total
