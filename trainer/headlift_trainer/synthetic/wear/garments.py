"""Clothes: shells below a neckline, and collars, lapels, hoods and scarves made to measure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headlift_trainer.synthetic.arrays import Floats, Numbers
from headlift_trainer.synthetic.base.obstacle import Obstacle
from headlift_trainer.synthetic.base.shells import Body, Shell, shell_part
from headlift_trainer.synthetic.classes import CLOTH
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part, vertex_normals
from headlift_trainer.synthetic.wear.accessories import around
from headlift_trainer.synthetic.wear.cloth import NECKLINES, cloth_part, neckline_field
from headlift_trainer.synthetic.wear.hats import grid_part

STYLES = ("t-shirt", "v-neck", "wide top", "scoop top", "shirt", "turtleneck", "sweater", "jacket", "hoodie", "scarf")
_SHARES = (0.22, 0.08, 0.06, 0.08, 0.19, 0.06, 0.07, 0.13, 0.07, 0.04)
_NECKLINE = {
    "t-shirt": "crew", "v-neck": "vee", "wide top": "wide", "scoop top": "scoop", "shirt": "shirt",
    "turtleneck": "turtle", "sweater": "crew", "jacket": "shirt", "hoodie": "crew", "scarf": "crew",
}  # fmt: skip
_NECK_AXIS_Z = -0.045


@dataclass(frozen=True)
class Garment:
    """What one head wears below the neck. Legend: N base vertices."""

    style: str
    neckline: str
    cover: Floats  # [N] m, positive on skin that is covered
    parts: tuple[Part, ...]


def sample_garment(rng: np.random.Generator, body: Body) -> Garment:
    """Draw clothes."""
    style = str(rng.choice(STYLES, p=np.array(_SHARES) / sum(_SHARES)))
    return make_garment(style, body, rng)


def make_garment(style: str, body: Body, rng: np.random.Generator) -> Garment:
    """Clothes of one of STYLES."""
    neckline = _NECKLINE[style]
    if style == "jacket":
        neckline = str(rng.choice(["shirt", "crew", "turtle"], p=[0.6, 0.3, 0.1]))
    cover = neckline_field(body.topology, neckline, rng)
    cover = np.asarray(cover + 0.0015 * smooth_noise(body.topology.mean, 40.0, rng), np.float32)
    obstacle = Obstacle(body, clothed=False)
    base = cloth_part(body, neckline, cover, rng, tight=style == "jacket")
    parts = [base]
    if neckline == "shirt":
        parts.append(_collar("cloth collar", body, obstacle, rng))
    elif style in ("t-shirt", "sweater", "hoodie", "v-neck", "scarf") and rng.random() < 0.8:
        parts.append(_rib(body, cover, rng))
    if style == "jacket":
        parts[0] = replace(base, name="cloth inner")
        parts[1:] = [replace(part, name="cloth inner " + part.name.split(" ")[-1]) for part in parts[1:]]
        parts += _jacket(body, rng)
    elif style == "hoodie":
        parts.append(_ring("cloth hood", body, rng, thick=rng.uniform(0.018, 0.03), front=0.35, height=0.004))
    elif style == "scarf":
        for index in range(2):
            thick = rng.uniform(0.013, 0.022)
            parts.append(_ring(f"cloth scarf {index}", body, rng, thick=thick, front=0.9, height=0.02 * index))
    return Garment(style, neckline, cover, tuple(parts))


def _rib(body: Body, cover: Floats, rng: np.random.Generator) -> Part:
    """The knitted band along a neckline."""
    width = rng.uniform(0.010, 0.022)
    field = np.minimum(cover, width - cover)
    shell = Shell(
        "cloth rib", CLOTH, KIND_PLAIN, fade_width=0.001, refinements=2, lump_size=0.0, lump_frequency=30.0,
        texture_scale=14.0, fine_border=0.02,
    )  # fmt: skip
    near = np.where(np.abs(cover) < 0.05, field, -1.0)
    height = 0.0085 + 0.004 * smoothstep(0.03, 0.0, cover) + np.zeros_like(cover)
    return shell_part(body, shell, np.asarray(near, np.float32), np.asarray(height, np.float32), rng)


def _jacket(body: Body, rng: np.random.Generator) -> list[Part]:
    """A coat over a shirt: open in front, with a collar and lapels."""
    x, y, z = body.topology.mean.T
    low = -0.34 + rng.uniform(-0.08, 0.05)  # where it closes
    top = -0.112
    share = np.clip((y - low) / (top - low), -1.0, 1.2)
    opening = np.where(z > -0.05, 0.006 + 0.068 * share, 0.02) + rng.uniform(-0.006, 0.008)
    angle = np.arctan2(np.abs(x), z - _NECK_AXIS_Z)
    side = (np.interp(np.cos(angle), [-1.0, 0.0, 1.0], [-0.098, -0.118, -0.12]) - y) * 0.9
    field = np.where(z > -0.05, np.minimum(np.abs(x) - opening, side + 0.03), side)
    field = np.where(z > -0.05, field, side) * smoothstep(0.5, 0.4, np.abs(x))
    shell = Shell(
        "cloth", CLOTH, KIND_PLAIN, fade_width=0.001, refinements=2, lump_size=rng.uniform(0.1, 0.3),
        lump_frequency=rng.uniform(20.0, 45.0), texture_scale=rng.uniform(6.0, 16.0), fine_border=0.015,
    )  # fmt: skip
    height = np.full(len(x), rng.uniform(0.016, 0.022)) + 0.008 * smoothstep(0.0, 0.15, np.asarray(field, np.float32))
    coat = shell_part(body, shell, np.asarray(field, np.float32), np.asarray(height, np.float32), rng)
    width = (0.018 + 0.05 * np.clip(share, 0, 1) ** 0.8) * smoothstep(-0.12, -0.15, y)
    notch = np.where(np.abs(y + 0.165) < 0.006, 0.5, 1.0)
    lapel_field = np.where(z > -0.05, np.minimum(field, width * notch - (np.abs(x) - opening)), -1.0)
    lapel = shell_part(
        body,
        replace(shell, name="cloth lapel", lump_size=0.05, fine_border=0.05),
        np.asarray(lapel_field, np.float32),
        np.asarray(height + 0.006, np.float32),
        rng,
    )
    collar = _collar("cloth coat", body, Obstacle(body, clothed=False), rng, lift=0.016, gap=0.75, stand=0.018)
    return [coat, lapel, collar]


def _collar(
    name: str,
    body: Body,
    obstacle: Obstacle,
    rng: np.random.Generator,
    *,
    lift: float = 0.006,
    gap: float | None = None,
    stand: float | None = None,
) -> Part:
    """A band that stands up around the neck, folds over and ends in two points."""
    gap = float(rng.uniform(0.10, 0.45)) if gap is None else gap
    stand = float(rng.uniform(0.014, 0.026)) if stand is None else stand
    azimuth = np.linspace(gap, 2 * np.pi - gap, 72)
    front, side, back = NECKLINES["shirt"]
    base = np.interp(np.cos(azimuth), [-1.0, 0.0, 1.0], [back, side, front]) - 0.004
    to_tip = np.minimum(azimuth - gap, 2 * np.pi - gap - azimuth)
    drop = rng.uniform(0.028, 0.042) + rng.uniform(0.018, 0.035) * np.exp(-((to_tip / 0.45) ** 2))
    spread = rng.uniform(0.10, 0.35)
    rows = []
    for share in np.linspace(0, 1, 5):  # up
        height = base + stand * (1.4 * share - 0.4)
        rows.append(_at(azimuth, height, around(body, azimuth, height) + lift + 0.002 * share))
    crest = rows[-1]
    for share in np.linspace(0, 1, 8)[1:]:  # over and down
        height = crest[:, 1] + 0.002 * np.sin(np.pi * share) - drop * share
        turned = np.pi + (azimuth - np.pi) * (1 - spread * 0.12 * share)
        radius = np.hypot(crest[:, 0], crest[:, 2] - _NECK_AXIS_Z) + 0.004 + 0.010 * share
        points = _at(turned, height, radius).astype(np.float32)
        points, _, _ = obstacle.push_out(points, np.full(len(points), lift + 0.008, np.float32))
        rows.append(points)
    part = grid_part(name, np.stack(rows[::-1]).astype(np.float32), CLOTH, scale=10.0, wraps=False)  # fronts face out
    # light from neck and cloth brightens the inside of a collar; without it, it would be black
    normals = vertex_normals(part.vertices, part.triangles)
    inward = smoothstep(0.2, -0.2, (normals * (part.vertices - [0, 0, _NECK_AXIS_Z]) * [1, 0, 1]).sum(1) * 12)
    normals = normals * (1 - 0.6 * inward[:, None]) + inward[:, None] * np.array([0.0, 0.9, 0.3])
    normals = normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9)
    return replace(part, normals=np.asarray(normals, np.float32))


def _ring(name: str, body: Body, rng: np.random.Generator, *, thick: float, front: float, height: float) -> Part:
    """A roll of cloth that lies about the neck."""
    azimuth = np.linspace(-np.pi, np.pi, 73)[:-1]
    forward = 0.5 + 0.5 * np.cos(azimuth)
    size = thick * (1 - (1 - front) * forward**1.5)
    middle = -0.088 - 0.055 * forward + height
    radius = around(body, azimuth, middle) + 0.9 * size + 0.006
    turn = np.linspace(0, 2 * np.pi, 15)
    rows = []
    for angle in turn:
        out = radius + size * np.sin(angle) * 1.15
        rows.append(_at(azimuth, middle + size * np.cos(angle), out))
    grid = np.stack(rows)
    folds = smooth_noise(grid.reshape(-1, 3), 90.0, rng).reshape(grid.shape[:2])
    folds[-1] = folds[0]
    outward = grid - grid.mean(0, keepdims=True)
    grid = grid + 0.16 * folds[..., None] * outward
    return grid_part(name, grid[::-1].astype(np.float32), CLOTH, scale=8.0)


def _at(azimuth: Numbers, height: Numbers, radius: Numbers) -> Numbers:
    """[K, 3] points about the neck's axis."""
    return np.stack([radius * np.sin(azimuth), height, radius * np.cos(azimuth) + _NECK_AXIS_Z], 1)
