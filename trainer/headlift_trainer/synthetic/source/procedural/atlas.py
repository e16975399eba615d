"""Textures that procedural heads need, drawn by code: skin grain, irises, strands, teeth, weaves.

Same form as `base.textures.TextureAtlas`: one flat array of fixed-point texels, rows by name.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.render.compiled import TEXEL_ONE

IRISES = {
    "brown": (0.085, 0.040, 0.018),
    "dark": (0.030, 0.016, 0.010),
    "hazel": (0.115, 0.080, 0.030),
    "green": (0.095, 0.115, 0.055),
    "blue": (0.095, 0.150, 0.220),
    "grey": (0.130, 0.150, 0.160),
}
WEAVES = ("plain", "heather", "stripes", "checks")
_LIMIT = 65535.0 / TEXEL_ONE


class ProceduralAtlas:
    """Named textures in one flat array. Legend: P texels."""

    def __init__(self) -> None:
        parts: list[NDArray[np.uint16]] = []
        self._rows: dict[str, tuple[int, int, int]] = {}
        rng = np.random.default_rng(0)
        drawn = {"skin": _skin(rng), "strands": _strands(rng), "teeth": _teeth()}
        drawn |= {f"iris/{name}": _eye(np.array(color), rng) for name, color in IRISES.items()}
        drawn |= {f"weave/{name}": _weave(name, rng) for name in WEAVES}
        start = 0
        for name, picture in drawn.items():
            height, width = picture.shape[:2]
            parts.append((np.clip(picture, 0, _LIMIT) * TEXEL_ONE).reshape(-1, 4).astype(np.uint16))
            self._rows[name] = (start, width, height)
            start += width * height
        self.texels: NDArray[np.uint16] = np.concatenate(parts)  # [P, 4]

    def row(self, name: str | None) -> tuple[int, int, int]:
        """Offset, width and height of a texture; zeros for None."""
        return (0, 0, 0) if name is None else self._rows[name]

    def opacity(self, name: str, uvs: Floats) -> Floats:
        """Alpha of a texture at [..., 2] texture coordinates, nearest texel."""
        offset, width, height = self._rows[name]
        wrapped = uvs - np.floor(uvs)
        column = np.minimum((wrapped[..., 0] * width).astype(np.int64), width - 1)
        line = np.minimum(((1.0 - wrapped[..., 1]) * height).astype(np.int64), height - 1)
        return np.asarray(self.texels[offset + line * width + column, 3] / np.float32(TEXEL_ONE), np.float32)


@cache
def atlas() -> ProceduralAtlas:
    """The textures, drawn once a process."""
    return ProceduralAtlas()


def _opaque(ratio: Floats | NDArray[np.float64]) -> Floats:
    """A grey or coloured ratio [H, W(, 3)] with alpha 1."""
    color = np.repeat(ratio[..., None], 3, -1) if ratio.ndim == 2 else ratio
    return np.concatenate([color, np.ones((*color.shape[:2], 1))], -1).astype(np.float32)


def _skin(rng: np.random.Generator, side: int = 256) -> Floats:
    """Pores, fine lines and blotches of 5 cm of skin, as a ratio to its colour."""

    def band(low: float, high: float) -> NDArray[np.float64]:
        noise = rng.normal(size=(side, side))
        found = gaussian_filter(noise, low, mode="wrap") - gaussian_filter(noise, high, mode="wrap")
        return np.asarray(found / found.std())

    pores = np.minimum(band(0.8, 2.0) + 0.6, 0.6)
    blotches, freckles = band(10.0, 26.0), np.maximum(band(2.2, 6.0) - 1.9, 0.0)
    value = 1.0 + 0.035 * pores + 0.03 * blotches
    red = value - 0.02 * blotches - 0.05 * freckles
    other = value - 0.055 * np.abs(blotches) * (blotches > 0) - 0.09 * freckles
    return _opaque(np.stack([red, other, other], -1))


def _strands(rng: np.random.Generator, width: int = 64, height: int = 128) -> Floats:
    """A lock of hair from root (v = 1) to tip: strands side by side that end one after the other."""
    across = np.arange(width)
    shade = gaussian_filter(rng.normal(size=width), 0.9)
    shade = 1.0 + 0.30 * shade / shade.std()
    length = np.clip(1.02 - 0.30 * rng.random(width) ** 2, 0.0, 1.02)
    edge = np.minimum(across + 0.5, width - across - 0.5) / width
    along = (np.arange(height) + 0.5) / height
    tip = np.clip((length[None] - along[:, None]) / 0.05, 0.0, 1.0)
    gaps = np.clip(1.2 - 0.9 * np.maximum(gaussian_filter(rng.normal(size=width), 1.2) * 3 - 0.8, 0), 0.0, 1.0)
    alpha = tip * np.clip(edge / 0.10, 0.0, 1.0)[None] * gaps[None]
    color = np.clip(np.tile(shade, (height, 1)), 0.3, 1.7) * (1 - 0.15 * along[:, None])
    return np.stack([color, color, color, alpha], -1).astype(np.float32)


def _eye(color: NDArray[np.float64], rng: np.random.Generator, side: int = 192) -> Floats:
    """The front of an eyeball seen along its axis; the picture spans its diameter."""
    line, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    x, y = (column + 0.5) / side * 2 - 1, (line + 0.5) / side * 2 - 1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rays = gaussian_filter(rng.normal(size=(360, 24)), (1.0, 3.0), mode="wrap")
    rays = rays / rays.std()
    iris_edge, pupil = 0.475, 0.19
    depth = np.clip((radius - pupil) / (iris_edge - pupil), 0.0, 0.999)
    fibre = rays[((angle + np.pi) / (2 * np.pi) * 360).astype(int) % 360, (depth * 24).astype(int)]
    iris = color * (1.0 + 0.28 * fibre[..., None]) * (0.75 + 0.6 * (1 - depth[..., None]))
    iris = iris * (1 - 0.75 * np.clip((depth[..., None] - 0.80) / 0.2, 0, 1))  # dark ring
    vein = np.clip((radius - 0.6) / 0.4, 0, 1)[..., None]
    white = np.array([0.74, 0.71, 0.68]) * (1 - vein * np.array([0.10, 0.28, 0.28]))
    picture = np.where(radius[..., None] < iris_edge, iris, white)
    soft = np.clip((radius - iris_edge) / 0.05, 0, 1)[..., None]
    picture = np.where(radius[..., None] < iris_edge, picture, iris * (1 - soft) * 0.4 + white * (0.4 * soft + 0.6))
    picture = np.where(radius[..., None] < pupil, 0.006, picture)
    return _opaque(np.clip(picture, 0.0, 1.9))


def _teeth(width: int = 256, height: int = 32) -> Floats:
    """Twelve teeth side by side: v = 0 is the biting edge, the gum begins at 0.8."""
    u = (np.arange(width) + 0.5) / width * 12
    v = 1 - (np.arange(height) + 0.5) / height
    gap = np.abs(u - np.round(u))
    tooth = np.clip(gap / 0.10, 0.25, 1.0)[None] * np.clip(v / 0.06, 0.3, 1.0)[:, None]
    gum = (v[:, None] > 0.80 - 0.10 * np.cos(2 * np.pi * (u[None] - 0.5))).astype(float)[..., None]
    color = tooth[..., None] * np.array([1.0, 0.96, 0.88]) * (1 - gum) + gum * np.array([0.50, 0.20, 0.18])
    return _opaque(color)


def _weave(name: str, rng: np.random.Generator, side: int = 96) -> Floats:
    line, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    value: NDArray[np.floating] = np.ones((side, side))
    if name == "heather":
        value = np.clip(1.0 + 0.3 * rng.normal(size=(side, side)), 0.3, 1.8)
    elif name == "stripes":
        value = np.where((line // (side // 4)) % 2 == 0, 1.2, 0.5)
    elif name == "checks":
        value = 1.3 - 0.45 * ((line // (side // 4)) % 2 + (column // (side // 4)) % 2)
    return _opaque(np.clip(value * (1 + 0.03 * rng.normal(size=(side, side))), 0.05, 1.9))
