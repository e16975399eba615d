"""Hair that is not seen: the colour of the hair that is, and strands that fall from the crown, as contrasty as its own.

A mean over all hair that could be there is a smooth shell, which no eye takes for hair. What is certain about the
hidden hair is its statistics: it consists of strands, it falls from the crown, and its strands differ as much in colour
as the visible ones do. So the template carries a fixed pattern of strands, and the picture says how strong it is. Ours.

Legend: B batch, N anchors.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.mini.parsing_groups import SURE, ParsingGroup
from headlift.model.mini.projection import ProjectedImage, ProjectedSample
from headlift.model.types import HEAD_CENTER

_CROWN = (0.0, 0.92, -0.39)  # direction from the head's centre
_STRANDS = 18, 3  # cells of noise a radian round the crown, and along the strand; a second layer is twice as fine
_SHARE_PRIOR = 0.003  # of the picture that must be hair before its colour is half believed
_TRUST = 0.7  # how far hidden hair follows seen hair; all the way costs .2 dB at the back, where light differs
_LOW_M, _HIGH_M, _HEIGHT_M = -0.3, 0.2, 0.025  # heights at which hair is compared, and how far each reaches
_SIDE_M = 0.06  # width of the middle, where hair is of both sides
_MIRRORED = 0.3  # what the other side says, of what this side does
_EVIDENCE = 5.0  # mean anchors of hair that must be seen at a height before they are half believed
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
    up = F.normalize(anchors.new_tensor(_CROWN), dim=0)
    right = anchors.new_tensor([1.0, 0.0, 0.0])
    way = F.normalize(anchors.detach() - anchors.new_tensor(HEAD_CENTER), dim=-1)
    around = torch.atan2(way @ torch.linalg.cross(right, up), way @ right)
    along = (way @ up).clamp(-1, 1).acos()
    pattern = (_noise(around, along, 1) + _noise(around, along, 2))[:, None]
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
    weight = ((hair > SURE) & (small[:, 3:] > SURE)).float()
    local = _window_mean(weight * small[:, :3]) / _window_mean(weight).clamp_min(1e-3)
    rough = weight * (small[:, :3] - local)
    bright = rough.mean(1, keepdim=True)
    total = weight.sum((2, 3)) + 1.0
    deviation = (bright.square().sum((2, 3)) / total).sqrt()
    return (rough * bright).sum((2, 3)) / total / deviation.clamp_min(1e-3)


def _window_mean(pictures: Tensor) -> Tensor:
    """Means over a window around each pixel, black beyond the border: along rows, then along columns."""
    rows = F.avg_pool2d(pictures, (1, 2 * _WINDOW + 1), 1, (0, _WINDOW))
    return F.avg_pool2d(rows, (2 * _WINDOW + 1, 1), 1, (_WINDOW, 0))


@torch.no_grad()
def hair_color(pixels: Tensor, parsing: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour of what a parsed picture surely shows as hair, [B, 3], and its share of the picture, [B, 1].

    Args:
        pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha. parsing: [B, 6, h, h] 0..1.
    """
    hair = parsing[:, ParsingGroup.HAIR, None].float()
    small = F.interpolate(pixels.float(), hair.shape[-2:], mode="area")
    weight = hair * (hair > SURE) * (small[:, 3:] > SURE)
    total = weight.sum((2, 3))
    color = (weight * small[:, :3] / small[:, 3:].clamp_min(SURE)).sum((2, 3)) / total.clamp_min(1e-3)
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
    places: Tensor,  # [N, 2 K] height_and_side
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
    # Ombre and streaks: what the one tone does not explain is explained by the hair at the same height and side.
    seen = sample.weight * (hairy * cover)[:, rows] * area
    tint = tint + _TRUST * at_height_and_side(sample.color - colors[:, rows].detach() - tint, seen, places, rows)
    # Where long hair hangs over neck and shoulders they have the hair's colour, whatever theirs would be.
    colors = torch.lerp(colors, mean, cover * (1 - hairy)) + tint * cover
    strands = grain_strength * hair_contrast(image.pixels, image.parsing)
    return colors + strands[:, None] * grain * cover


def height_and_side(anchors: Tensor) -> Tensor:
    """How near anchors [N, 3] m are to each of K heights, on the head's left and on its right: [N, 2 K], 0..1."""
    heights = torch.arange(_LOW_M, _HIGH_M, _HEIGHT_M, dtype=anchors.dtype, device=anchors.device)
    near = torch.exp(-((anchors[:, 1:2] - heights) / _HEIGHT_M).square() / 2)
    left = (0.5 + anchors[:, :1] / _SIDE_M).clamp(0, 1)
    return torch.cat([near * left, near * (1 - left)], 1)


def at_height_and_side(difference: Tensor, weight: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    """What is seen of some anchors, for all of them: the mean at the same height, on the same side before the other.

    Args:
        difference: [B, m, 3] of colours, seen against expected. weight: [B, m, 1] how far each is seen.
        places: [N, 2 K] height_and_side. rows: [m] which anchors were looked at.

    Returns:
        [B, N, 3], 0 where nothing is seen at that height.
    """
    known = places[rows].T  # [2 K, m]
    sums = known @ torch.cat([difference * weight, weight], -1)
    sums = sums + _MIRRORED * sums.roll(sums.shape[1] // 2, 1)
    found = places @ sums
    return found[..., :3] / (found[..., 3:] + _EVIDENCE)


def _noise(around: Tensor, along: Tensor, octave: int) -> Tensor:
    """Smooth noise [N] that closes around the crown, at angles [N] round it (-pi..pi) and from it (0..pi)."""
    across, down = (round(octave * cells * math.pi) for cells in _STRANDS)
    drawn = np.random.default_rng(octave).uniform(-1, 1, (down, 2 * across))
    table = torch.from_numpy(np.concatenate([drawn, drawn[:, :1]], 1)).to(around)
    places = torch.stack([around / math.pi, 2 * along / math.pi - 1], -1)
    return F.grid_sample(table[None, None], places[None, None], align_corners=True)[0, 0, 0]
