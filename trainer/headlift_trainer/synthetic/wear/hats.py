"""Hats, caps, beanies, headbands and headscarves: surfaces about the skull that press the hair below them flat.

A hat is a grid of azimuths and rows. A row is a share of the way from the hat's edge to the crown, so that edges may
run at any height; the radius follows the skull.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Numbers
from headlift_trainer.synthetic.base.identity import Person
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.classes import HAT
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import ALPHA_FADE, ALPHA_NONE, KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part
from headlift_trainer.synthetic.wear.accessories import around

STYLES = ("none", "beanie", "cap", "cap backwards", "brimmed hat", "headscarf", "headband")
_AZIMUTHS = 96
_CENTER = np.array([0.0, 0.045, -0.02])  # m, in the skull; rows above the edge fan out from here
_NECK_AXIS_Z = -0.045


@dataclass(frozen=True)
class Hat:
    """What one head wears on top."""

    style: str
    parts: tuple[Part, ...]
    edge: Numbers  # [_AZIMUTHS] m, height of the lower edge; +infinity where no hair is pressed

    def hides(self, points: Floats) -> Floats:
        """[K] 0..1, how much of the hair at these points [K, 3] m the hat presses flat."""
        azimuth = np.arctan2(points[:, 0], points[:, 2] - _CENTER[2])
        edge = np.interp(azimuth, _azimuths(), self.edge, period=2 * np.pi)
        if self.style == "headband":
            return np.zeros(len(points), np.float32)
        return smoothstep(-0.012, -0.002, np.asarray(points[:, 1] - edge, np.float32))


def sample_hat(rng: np.random.Generator, person: Person, body: Body) -> Hat:
    """Draw a hat: every tenth head wears one."""
    shares = np.array([0.90, 0.024, 0.030, 0.008, 0.014, 0.004, 0.004])
    if not person.is_male:
        shares = np.array([0.90, 0.024, 0.014, 0.003, 0.022, 0.022, 0.015])
    style = str(rng.choice(STYLES, p=shares / shares.sum()))
    return make_hat(style, body, rng)


def make_hat(style: str, body: Body, rng: np.random.Generator) -> Hat:
    """A hat of one of STYLES, fitted to a head."""
    nothing = np.full(_AZIMUTHS, np.inf)
    if style == "none":
        return Hat(style, (), nothing)
    if style == "headscarf":
        return _scarf(body, rng)
    azimuth = _azimuths()
    front = 0.5 + 0.5 * np.cos(azimuth)
    if style == "headband":
        band = rng.uniform(0.018, 0.05)
        edge = 0.115 - 0.075 * (1 - front) ** 0.8
        part = _crown(body, edge, rng, thickness=0.010, slack=0.0, rows=6, stop=band)
        return Hat(style, (part,), nothing)
    low = rng.uniform(0.075, 0.100) if style != "beanie" else rng.uniform(0.062, 0.10)
    back = rng.uniform(-0.01, 0.03) if style != "beanie" else rng.uniform(-0.03, 0.01)
    if style == "cap backwards":
        low, back = rng.uniform(0.09, 0.11), 0.02
    edge = back + (low - back) * front
    ears = np.exp(-(((np.abs(azimuth) - 1.6) / 0.5) ** 2))
    edge = edge + ears * (0.012 if style != "beanie" else rng.uniform(-0.01, 0.015))
    slack = {"beanie": rng.uniform(0.0, 0.22), "brimmed hat": rng.uniform(0.05, 0.22)}.get(style, 0.06)
    flat = rng.uniform(0.0, 0.5) if style == "brimmed hat" else 0.0
    parts = [_crown(body, edge, rng, thickness=rng.uniform(0.010, 0.016), slack=slack, flat=flat)]
    if style in ("cap", "cap backwards"):
        parts.append(_peak(parts[0], rng, backwards=style != "cap"))
    elif style == "brimmed hat":
        parts.append(_brim(parts[0], rng))
    elif rng.random() < 0.6:
        fold = rng.uniform(0.03, 0.055)
        parts.append(_crown(body, edge, rng, thickness=0.019, slack=0.0, rows=5, stop=fold, name="hat fold"))
    return Hat(style, tuple(parts), edge)


def _azimuths() -> Numbers:
    return -np.pi + 2 * np.pi * np.arange(_AZIMUTHS) / _AZIMUTHS


def _skull_radius(body: Body, directions: Numbers) -> Numbers:
    """Distance [...] from the centre to the skin without ears, along unit vectors [..., 3]."""
    used = np.unique(body.topology.triangles)
    bare = body.topology.ear | body.topology.mouth_inside | body.topology.eye_socket
    v = body.vertices[used[~bare[used]]]
    offset = v[v[:, 1] > -0.09] - _CENTER
    length = np.linalg.norm(offset, axis=1)
    distance, near = cKDTree(offset / length[:, None]).query(directions.reshape(-1, 3), k=5)
    weight = 1 / (distance + 0.02)
    return np.asarray(((length[near] * weight).sum(1) / weight.sum(1)).reshape(directions.shape[:-1]))


def _crown(
    body: Body,
    edge: Numbers,
    rng: np.random.Generator,
    *,
    thickness: float,
    slack: float,
    flat: float = 0.0,
    rows: int = 22,
    stop: float | None = None,
    name: str = "hat crown",
) -> Part:
    """A cover from the edge [A] m to the crown, or a band that stops at a height above the edge."""
    azimuth = _azimuths()
    guess = np.arctan2(edge - _CENTER[1], 0.09)
    top = np.full(_AZIMUTHS, np.pi / 2) if stop is None else guess + stop / 0.10
    share = np.linspace(0, 1, rows)[:, None]
    elevation = guess + (top - guess) * share
    directions = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], -1
    )
    radius = _skull_radius(body, directions)
    radius = gaussian_filter(np.pad(radius, ((2, 2), (0, 0)), mode="edge"), (1.5, 3), mode=("nearest", "wrap"))[2:-2]
    height = np.clip(elevation / (np.pi / 2), 0, 1)
    rise = smoothstep(0.0, 0.5, height.astype(np.float32)) * slack
    radius = (radius + thickness) * (1 + rise * (1 - flat * np.maximum(0, height - 0.5)))
    points = _CENTER + radius[..., None] * directions
    folds = 0.0025 * smooth_noise(points.reshape(-1, 3), 60.0, rng).reshape(radius.shape) * (0.3 + 2 * rise)
    points = (points + folds[..., None] * directions).astype(np.float32)
    inner = _CENTER + (points[:1] - _CENTER) * (1 - 0.8 * thickness / radius[:1, :, None])  # the edge is turned in
    grid = np.concatenate([inner.astype(np.float32), points])
    return grid_part(name, grid, HAT, scale=9.0)


def _peak(crown: Part, rng: np.random.Generator, *, backwards: bool) -> Part:
    """The peak of a cap: a bent plate before the forehead."""
    edge = crown.vertices.reshape(-1, _AZIMUTHS, 3)[1]
    angle = np.abs(_azimuths())
    if backwards:
        angle = np.pi - angle
    chosen = np.flatnonzero(angle < rng.uniform(0.95, 1.15))
    chosen = chosen[np.argsort(edge[chosen, 0])]
    rim = edge[chosen]
    length, tip = rng.uniform(0.055, 0.078), rng.uniform(-0.35, 0.0)
    forward = -1.0 if backwards else 1.0
    reach = np.sqrt(np.clip(1 - (rim[:, 0] / (np.abs(rim[:, 0]).max() + 1e-6)) ** 2, 0, 1)) ** 0.8
    rows = []
    for share in np.linspace(0, 1, 7):
        row = rim.copy()
        row[:, 2] += forward * length * share * (0.15 + 0.85 * reach)
        row[:, 1] += length * share * tip - 9.0 * share * rim[:, 0] ** 2 * 0.25
        row[:, 0] *= 1 - 0.08 * share
        rows.append(row)
    upper = np.stack(rows)
    lower = upper[::-1] - np.array([0, 0.0025, 0], np.float32)
    return grid_part("hat peak", np.concatenate([upper, lower]), HAT, scale=9.0, wraps=False)


def _brim(crown: Part, rng: np.random.Generator) -> Part:
    """A brim all around."""
    edge = crown.vertices.reshape(-1, _AZIMUTHS, 3)[1]
    outward = edge - _CENTER
    outward[:, 1] = 0
    outward = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    width, droop = rng.uniform(0.03, 0.09), rng.uniform(-0.5, 0.3)
    wave = 0.15 * np.cos(2 * _azimuths()) * rng.uniform(-1, 1)
    rows = []
    for share in np.linspace(0, 1, 6):
        row = edge + outward * width * share
        row[:, 1] += width * (droop + wave) * share**1.5
        rows.append(row)
    upper = np.stack(rows)
    lower = upper[::-1] - np.array([0, 0.002, 0], np.float32)
    return grid_part("hat brim", np.concatenate([upper, lower]).astype(np.float32), HAT, scale=9.0)


def _scarf(body: Body, rng: np.random.Generator) -> Hat:
    """A cloth around head and neck that leaves the face open."""
    azimuth = _azimuths()
    top_rows, rows = 16, 40
    heights = np.linspace(-0.20, 0.05, rows)
    grid_a, grid_y = np.meshgrid(azimuth, heights)
    skin = around(body, grid_a.ravel(), grid_y.ravel(), ears=True).reshape(rows, -1)
    axis = _NECK_AXIS_Z
    # cloth spans from cheek to shoulder: it does not follow the jaw into the neck
    skin = maximum_filter(skin, (5, 5), mode=("nearest", "wrap"))
    jaw = skin[-12][None]
    low = smoothstep(-0.03, -0.14, heights.astype(np.float32))[:, None]
    skin = np.maximum(skin, jaw * (1 - 0.18 * low) * (heights > -0.14)[:, None])
    skin = gaussian_filter(np.pad(skin, ((4, 4), (0, 0)), mode="edge"), (2.0, 3.0), mode=("nearest", "wrap"))[4:-4]
    thickness = rng.uniform(0.006, 0.011)
    radius = skin + thickness + 0.01 * low
    lower = np.stack([radius * np.sin(grid_a), grid_y, radius * np.cos(grid_a) + axis], -1)
    share = np.linspace(0, 1, top_rows + 1)[1:, None]
    start = np.arctan2(lower[-1, :, 1] - _CENTER[1], np.hypot(lower[-1, :, 0], lower[-1, :, 2] - _CENTER[2]))
    elevation = start + (np.pi / 2 - start) * share
    directions = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], -1
    )
    dome = gaussian_filter(_skull_radius(body, directions), (1.5, 3), mode=("nearest", "wrap")) + thickness + 0.006
    points = np.concatenate([lower, _CENTER + dome[..., None] * directions])
    folds = 0.35 * smooth_noise(points.reshape(-1, 3) * np.array([1, 0.35, 1]), 110.0, rng)
    outward = points - np.array([0, 0.0, axis])
    outward[..., 1] *= 0.3
    outward = outward / np.linalg.norm(outward, axis=-1, keepdims=True)
    away = smoothstep(0.06, 0.0, points[..., 2].astype(np.float32))
    points = points + outward * (0.004 * (0.3 + 0.7 * away) * folds.reshape(points.shape[:2]))[..., None]
    top, bottom = rng.uniform(0.09, 0.112), rng.uniform(-0.092, -0.084)
    middle, half = (top + bottom) / 2, (top - bottom) / 2
    wide = rng.uniform(0.062, 0.072)
    oval = np.sqrt((points[..., 0] / wide) ** 2 + ((points[..., 1] - middle) / half) ** 2) - 1
    opening = np.where(points[..., 2] > 0.0, oval * 0.06, 1.0)
    fade = (0.5 + opening / 0.0015).astype(np.float32)
    part = grid_part("hat scarf", points.astype(np.float32), HAT, scale=7.0)
    part = replace(part, alpha=ALPHA_FADE, fade=np.clip(fade.ravel(), -40, 40))
    return Hat("headscarf", (part,), np.full(_AZIMUTHS, -1.0))


def grid_part(name: str, grid: Numbers, label: int, *, scale: float, wraps: bool = True) -> Part:
    """A part of one class from rows of points [R, A, 3]; `scale` in texture tiles a metre."""
    rows, columns = grid.shape[:2]
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns if wraps else columns - 1), indexing="ij")
    after = (column + 1) % columns
    a, b = row * columns + column, row * columns + after
    c, d = (row + 1) * columns + after, (row + 1) * columns + column
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    across = np.linspace(0, 0.6, columns + 1)
    down = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(grid, axis=0), axis=-1).mean(1))])
    uv = np.stack(np.broadcast_arrays(across[None, :], down[:, None]), -1) * scale  # [R, A + 1, 2]
    left, right = uv[:, :-1].reshape(-1, 2), uv[:, 1:].reshape(-1, 2)
    corner_a, corner_b = left[a], right[a]
    corner_c, corner_d = right[d], left[d]
    uvs = np.concatenate(
        [np.stack([corner_a, corner_b, corner_c], -2).reshape(-1, 3, 2),
         np.stack([corner_a, corner_c, corner_d], -2).reshape(-1, 3, 2)]
    )  # fmt: skip
    return Part(
        name,
        np.ascontiguousarray(grid.reshape(-1, 3), np.float32),
        triangles.astype(np.int32),
        np.ascontiguousarray(uvs, np.float32),
        np.full(rows * columns, label, np.uint8),
        kind=KIND_PLAIN,
        alpha=ALPHA_NONE,
    )


def tucked(part: Part, hat: Hat) -> Part:
    """Hair without what a hat hides."""
    x, y, z = part.vertices.T
    fringe = smoothstep(0.062, 0.052, np.abs(x)) * smoothstep(0.02, 0.035, z) * smoothstep(0.03, 0.045, y)
    hidden = np.maximum(hat.hides(part.vertices), fringe if np.isfinite(hat.edge).any() else 0.0)
    fade = np.ones(len(part.vertices), np.float32) if part.fade is None else np.clip(part.fade, 0, 1)
    return replace(part, fade=np.asarray(fade * (1 - hidden), np.float32))
