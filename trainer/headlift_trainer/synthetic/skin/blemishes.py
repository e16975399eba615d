"""What age, sun and make-up draw on skin: wrinkles, spots, moles, freckles, shadows under the eyes, blush, eye shadow.

All of it is a ratio to the skin's texture, computed texel by texel at places of the mean head, so it sits right on
every shape; the renderer takes bumps from the texture's slopes, so creases catch the light too.

Legend: S side of the chart, K texels on the front of the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Numbers
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import ALPHA_NONE
from headlift_trainer.synthetic.render.rasterizing import rasterize_triangles

CHART_SIDE = 512
_EYE_X, _EYE_Y = 0.0315, 0.028


@dataclass(frozen=True)
class SkinChart:
    """Where the texels of skin textures lie on the mean head."""

    side: int
    texels: NDArray[np.int64]  # [K] flat index in [S, S] of texels on face, ears and the front of the neck
    places: Floats  # [K, 3] m

    @classmethod
    def of(cls, topology: Topology, side: int = CHART_SIDE) -> SkinChart:
        """Draw the mean head into its own texture."""
        head = topology.mean[:, 1] > -0.14
        pockets = topology.mouth_inside | topology.eye_socket
        chosen = head[topology.triangles].all(1) & ~pockets[topology.triangles].all(1)
        triangles, uvs = topology.triangles[chosen], topology.corner_uvs[chosen]
        count = len(triangles)
        screen = np.ones((3 * count, 3), np.float32)
        screen[:, 0] = uvs.reshape(-1, 2)[:, 0] * side
        screen[:, 1] = (1 - uvs.reshape(-1, 2)[:, 1]) * side
        ids, barycentric = np.full((side, side), -1, np.int32), np.zeros((side, side, 2), np.float32)
        rasterize_triangles(
            screen, False, np.arange(3 * count, dtype=np.int32).reshape(-1, 3), uvs, np.ones(3 * count, np.float32),
            np.zeros(count, np.int32), np.array([ALPHA_NONE], np.int32), np.zeros((1, 3), np.int32),
            np.zeros((1, 4), np.uint16), np.full((side, side), -1e30, np.float32), ids, barycentric,
        )  # fmt: skip
        texels = np.flatnonzero(ids.ravel() >= 0)
        weights = barycentric.reshape(-1, 2)[texels]
        weights = np.concatenate([1 - weights.sum(1, keepdims=True), weights], 1)
        places = np.einsum("kc,kcd->kd", weights, topology.mean[triangles[ids.ravel()[texels]]])
        front = places[:, 2] > -0.01
        return cls(side, texels[front], np.asarray(places[front], np.float32))

    @cached_property
    def tree(self) -> cKDTree:
        """For spots."""
        return cKDTree(self.places)

    def picture(self, ratio: Floats) -> Floats:
        """Values [K, 3] as a chart [S, S, 3], 1 elsewhere."""
        chart = np.ones((self.side * self.side, 3), np.float32)
        chart[self.texels] = ratio
        return chart.reshape(self.side, self.side, 3)


@dataclass(frozen=True)
class Makeup:
    """What is put on a face; colours are linear albedo."""

    lipstick: Floats | None = None  # [3]
    shadow: Floats | None = None  # [3] on the upper lids
    liner: float = 0.0  # 0..1
    blush: float = 0.0  # 0..1

    @property
    def name(self) -> str:
        """none, or what is worn."""
        worn = [
            name
            for name, on in (
                ("lipstick", self.lipstick is not None), ("eye shadow", self.shadow is not None),
                ("eyeliner", self.liner > 0), ("blush", self.blush > 0),
            )
            if on
        ]  # fmt: skip
        return ", ".join(worn) or "none"


def draw_makeup(rng: np.random.Generator, maleness: float, age_years: float) -> Makeup:
    """Make-up of about half of all women."""
    if maleness > 0.5 or age_years < 15 or rng.random() < 0.45:
        return Makeup()
    lipstick = shadow = None
    if rng.random() < 0.75:
        kind = rng.choice(3, p=[0.45, 0.4, 0.15])  # near the lips' own colour, red, dark or pink
        color = ((0.36, 0.13, 0.12), (0.42, 0.035, 0.045), (0.22, 0.03, 0.07))[kind]
        lipstick = np.asarray(np.clip(np.array(color) * np.exp(rng.normal(0, 0.18, 3)), 0.015, 0.5), np.float32)
    if rng.random() < 0.45:
        color = ((0.16, 0.09, 0.06), (0.05, 0.045, 0.05), (0.20, 0.10, 0.14), (0.06, 0.09, 0.15))[
            int(rng.choice(4, p=[0.5, 0.2, 0.2, 0.1]))
        ]
        shadow = np.asarray(np.array(color) * np.exp(rng.normal(0, 0.2, 3)), np.float32)
    liner = float(rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else 0.0
    blush = float(rng.uniform(0.2, 0.8)) if rng.random() < 0.5 else 0.0
    return Makeup(lipstick, shadow, liner, blush)


@dataclass(frozen=True)
class Complexion:
    """What was drawn on one skin."""

    ratio: Floats  # [S, S, 3] on the texture
    wrinkles: float  # 0..1
    freckles: bool
    moles: int


def draw_complexion(
    chart: SkinChart, rng: np.random.Generator, age_years: float, melanin: float, makeup: Makeup, tone: Floats
) -> Complexion:
    """Draw marks of age, sun and make-up for a skin of this tone [3]."""
    places = chart.places
    ratio = np.ones((len(places), 3), np.float32)
    depth = float(np.clip((age_years - 32) / 38, 0, 1) * rng.uniform(0.5, 1.15))
    crease = np.zeros(len(places), np.float32)
    if depth > 0.03:
        crease = _creases(places, rng, depth)
    faint = 0.12 * rng.uniform(0.2, 1.0)
    crease = crease + faint * _line(_nasolabial(places), 0.0016) * _between(places[:, 1], -0.042, -0.012)
    ratio *= 1 - np.clip(crease, -0.15, 0.6)[:, None] * np.array([0.75, 1.0, 1.05], np.float32)
    tired = rng.uniform(0.0, 0.16) + 0.10 * depth
    x, y = np.abs(places[:, 0]) - _EYE_X, places[:, 1] - (_EYE_Y - 0.013)
    bags = np.exp(-((x / 0.014) ** 2) - (y / 0.006) ** 2) * (places[:, 2] > 0.02)
    ratio *= 1 - tired * bags[:, None] * np.array([0.8, 1.0, 0.85], np.float32)
    freckles = bool(melanin < 0.35 and rng.random() < 0.16)
    if freckles:
        cheeks = np.exp(-((np.abs(places[:, 0]) / 0.05) ** 4) - ((places[:, 1] - 0.0) / 0.035) ** 2)
        _spots(ratio, chart, rng, int(rng.integers(80, 420)), cheeks, (0.0004, 0.0011), (0.88, 0.76, 0.64), 0.6)
    if age_years > 50:
        sides = 0.2 + np.clip(np.abs(places[:, 0]) / 0.06, 0, 1)
        count = int(rng.poisson(0.6 * (age_years - 50)))
        _spots(ratio, chart, rng, count, sides, (0.0010, 0.0030), (0.88, 0.78, 0.68), 0.7)
    moles = int(rng.poisson(1.6))
    _spots(ratio, chart, rng, moles, np.ones(len(places)), (0.0008, 0.0017), (0.42, 0.33, 0.30), 0.95)
    if rng.random() < 0.25:
        red = (0.98, 0.76, 0.76)
        _spots(ratio, chart, rng, int(rng.integers(2, 14)), np.ones(len(places)), (0.001, 0.0022), red, 0.7)
    mottled = 0.02 * smooth_noise(places, 500.0, rng) + 0.02 * smooth_noise(places, 1100.0, rng)
    ratio *= 1 + mottled[:, None] * np.array([0.6, 1.0, 1.0], np.float32)
    _paint(ratio, places, makeup, tone)
    return Complexion(chart.picture(np.clip(ratio, 0.1, 1.6)), depth, freckles, moles)


def _creases(places: Floats, rng: np.random.Generator, depth: float) -> Floats:
    """[K] how dark folds are: forehead, between the brows, beside and under the eyes, around the mouth, neck."""
    x, y, z = places.T
    out = np.abs(x)
    front = smoothstep(0.0, 0.03, z)
    total = np.zeros(len(places), np.float32)
    for height in np.linspace(0.066, 0.094, int(rng.integers(3, 6))) + rng.normal(0, 0.0015):
        wave = 0.0016 * np.sin(x * rng.uniform(50, 120) + rng.uniform(0, 6.3)) + rng.uniform(-1.0, 1.0) * x**2
        ends = np.exp(-(((x - rng.normal(0, 0.006)) / rng.uniform(0.026, 0.042)) ** 4))
        total += rng.uniform(0.4, 1.0) * _line(y - height - wave, 0.0010) * ends * front
    for _ in range(2):
        place = rng.uniform(0.004, 0.009)
        frown = _line(out - place - 0.1 * (y - 0.045), 0.0009) * _between(y, 0.040, 0.060)
        total += rng.uniform(0.2, 0.9) * frown * front
    corner_x, corner_y = out - 0.047, y - 0.027
    along, angle = np.hypot(corner_x, corner_y), np.arctan2(corner_y, corner_x)
    for ray in np.linspace(-0.7, 0.6, int(rng.integers(3, 6))):
        off = along * np.sin(angle - ray - rng.normal(0, 0.05))
        length = rng.uniform(0.010, 0.020)
        total += rng.uniform(0.4, 0.9) * _line(off, 0.0008) * (np.cos(angle - ray) > 0) * _between(along, 0.001, length)
    below = np.hypot((out - _EYE_X) / 1.35, y - _EYE_Y)
    for radius in (0.0135, 0.0165):
        arc = _line(below - radius, 0.0009) * smoothstep(_EYE_Y - 0.004, _EYE_Y - 0.010, y)
        total += rng.uniform(0.2, 0.7) * arc * front
    total += rng.uniform(0.7, 1.2) * _line(_nasolabial(places), 0.0013) * _between(y, -0.050, -0.010) * front
    total += rng.uniform(0.2, 0.8) * _line(out - 0.031 - 0.1 * (y + 0.06), 0.0012) * _between(y, -0.078, -0.056) * front
    for height in (-0.108, -0.122):
        wave = 0.002 * np.sin(x * 70 + rng.uniform(0, 6.3))
        total += rng.uniform(0.2, 0.6) * _line(y - height - wave, 0.0014) * smoothstep(0.06, 0.04, out)
    return np.asarray(0.34 * depth * total, np.float32)


def _nasolabial(places: Floats) -> Floats:
    """[K] m, distance across the fold from the wing of the nose to the corner of the mouth."""
    down = -0.010 - places[:, 1]
    return np.asarray((np.abs(places[:, 0]) - 0.0185 - 0.42 * down + 2.0 * down**2) * 0.9, np.float32)


def _line(distance: Numbers, width: float) -> Floats:
    """A crease with a lighter ridge beside it."""
    d = np.abs(distance) / width
    return np.asarray(np.exp(-(d**2)) - 0.30 * np.exp(-((d - 2.3) ** 2)), np.float32)


def _between(value: Numbers, low: float, high: float) -> Floats:
    """1 well inside an interval, 0 outside, soft at both ends."""
    soft = 0.25 * (high - low)
    return smoothstep(low, low + soft, value) * smoothstep(high, high - soft, value)


def _spots(
    ratio: Floats,
    chart: SkinChart,
    rng: np.random.Generator,
    count: int,
    density: NDArray[np.floating],
    radii: tuple[float, float],
    color: tuple[float, float, float],
    strength: float,
) -> None:
    """Multiply round spots into the ratio [K, 3], in place."""
    if count <= 0 or not len(chart.places):
        return
    share = density / density.sum()
    centers = chart.places[rng.choice(len(chart.places), count, p=share)]
    for center in centers:
        radius = rng.uniform(*radii)
        near = np.asarray(chart.tree.query_ball_point(center, 2 * radius), np.int64)
        if not len(near):
            continue
        distance = np.linalg.norm(chart.places[near] - center, axis=1) / radius
        cover = strength * rng.uniform(0.5, 1.0) * smoothstep(1.25, 0.65, np.asarray(distance, np.float32))
        ratio[near] *= 1 - cover[:, None] * (1 - np.array(color, np.float32))


def _paint(ratio: Floats, places: Floats, makeup: Makeup, tone: Floats) -> None:
    """Blush, eye shadow and liner, in place."""
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    if makeup.blush > 0:
        cheek = np.exp(-(((x - 0.047) / 0.018) ** 2) - ((y + 0.006 - 0.35 * (x - 0.047)) / 0.013) ** 2) * (z > 0)
        ratio *= 1 - makeup.blush * cheek[:, None] * np.array([0.05, 0.34, 0.26], np.float32)
    lid = np.exp(-(((x - _EYE_X - 0.002) / 0.016) ** 4) - ((y - _EYE_Y - 0.0085) / 0.0055) ** 2) * (z > 0.02)
    if makeup.shadow is not None:
        wanted = makeup.shadow / np.maximum(tone, 0.02)
        ratio += 0.6 * lid[:, None] * (np.minimum(wanted, 1.2) - ratio)
    if makeup.liner > 0:
        across, up = (x - _EYE_X) / 0.0165, (y - _EYE_Y - 0.12 * (x - _EYE_X)) / 0.0068
        rim = np.exp(-(((np.hypot(across, up) - 1) / 0.14) ** 2)) * smoothstep(-0.5, 0.3, up) * (z > 0.02)
        ratio *= 1 - 0.75 * makeup.liner * rim[:, None]
