"""The grain of hair: strands that fall from the crown, as contrasty as the hair that the picture shows.

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

from headlift.model.surfaces import Shown

_CENTER, _CROWN = (0.0, 0.03, -0.02), (0.0, 0.92, -0.39)  # m, and a direction
# Noise: cells a radian round the crown, cells a radian along the strand, strength. The finest is two anchors wide.
_STRANDS = ((9.0, 2.0, 0.6), (19.0, 3.5, 1.0), (34.0, 5.0, 0.9))
_WAVE = 0.06  # radians that strands swing sideways
_SURE, _OPAQUE = 0.7, 0.95
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
def hair_contrast(pixels: Tensor, shown: Tensor) -> Tensor:
    """How much the strands of the visible hair differ in colour: [B, 3], of one standard deviation of brightness.

    Args:
        pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha. shown: [B, 6, h, h] 0..1, the parsed picture.
    """
    side = 2 * shown.shape[-1]
    small = F.interpolate(pixels.float(), (side, side), mode="area")
    hair = F.interpolate(shown[:, Shown.HAIR, None].float(), (side, side), mode="bilinear", align_corners=False)
    weight = ((hair > _SURE) & (small[:, 3:] > _OPAQUE)).float()
    window = 2 * _WINDOW + 1
    local = F.avg_pool2d(weight * small[:, :3], window, 1, _WINDOW)
    local = local / F.avg_pool2d(weight, window, 1, _WINDOW).clamp_min(1e-3)
    rough = weight * (small[:, :3] - local)
    bright = rough.mean(1, keepdim=True)
    total = weight.sum((2, 3)) + 1.0
    deviation = (bright.square().sum((2, 3)) / total).sqrt()
    return (rough * bright).sum((2, 3)) / total / deviation.clamp_min(1e-3)


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
        weight = np.where(bits, share, 1 - share).prod(1)
        total += weight * table[(index ^ (index >> 13)) % len(table)]
    return total
