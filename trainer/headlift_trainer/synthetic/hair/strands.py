"""Hair grown strand by strand: guide curves that leave the skin, bend, fall and slide over head and shoulders, and
the cards and tubes that are drawn along them.

Legend: G guides, K points along a guide, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Ints, Numbers
from headlift_trainer.synthetic.base.obstacle import SKULL_CENTER, Obstacle
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.base.strand_texture import COLUMNS
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import ALPHA_FADE, ALPHA_TEXTURE, KIND_HAIR, KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part


@dataclass(frozen=True)
class Growth:
    """How the guides of one cut grow. Lengths in metres."""

    length: float
    length_spread: float = 0.15  # relative deviation from guide to guide
    steps: int = 8
    lift: float = 0.5  # share of the skin's normal in the first direction
    bend: float = 0.05  # way after which gravity has turned a guide by most of the angle
    gravity: float = 1.0  # 0 stands off as it grows
    volume: float = 0.012  # how far the outer layers stand off the head
    front: float = 0.5  # share of long hair that falls in front of the shoulders
    drape: float = 0.3  # how much hanging hair closes in around the neck
    keeps_face_free: bool = True
    wave: float = 0.0  # amplitude of curls
    wavelength: float = 0.05
    clumps: int = 70  # strands of a clump curl together
    frizz: float = 0.0  # deviation of every point


@dataclass(frozen=True)
class Guides:
    """Curves of hair."""

    points: Floats  # [G, K, 3] m
    outward: Floats  # [G, K, 3] unit, away from the head
    clump: Ints  # [G]

    @property
    def count(self) -> int:
        """G."""
        return len(self.points)


@dataclass(frozen=True)
class Strands:
    """What colours need to know about the vertices of a part of hair. Legend: V vertices."""

    along: Floats  # [V] 0 root, 1 tip
    lock: Floats  # [V] 0..1, random, the same on a whole lock


def roots_on(body: Body, density: Numbers, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Points [count, 3] m and normals [count, 3] on the skin, as dense as `density` [N] 0..1; empty if it is 0."""
    triangles = body.topology.triangles
    share = density[triangles].mean(1)
    triangles, share = triangles[share > 0.01], share[share > 0.01]
    corners = body.vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) * share
    if not area.sum() > 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
    # even steps through the sum of areas: fewer gaps and heaps than independent draws
    places = (np.arange(count) + rng.random(count)) / count * area.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(area), places), len(area) - 1)
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], 1)
    normals = np.einsum("gk,gkd->gd", weights, body.normals[triangles[chosen]])
    points = np.einsum("gk,gkd->gd", weights, corners[chosen])
    return points.astype(np.float32), _unit(normals)


def grow(
    roots: Floats,
    normals: Floats,
    comb: Numbers,
    growth: Growth,
    obstacle: Obstacle,
    rng: np.random.Generator,
    lengths: Numbers | None = None,
) -> Guides:
    """Grow guides.

    Args:
        roots: Where they leave the skin, [G, 3] m.
        normals: Of the skin there, [G, 3].
        comb: Direction in which they are combed at the root, [G, 3]; its length is the share beside the normal's.
        growth: Lengths and forces.
        obstacle: What they lie on.
        rng: For lengths, layers and curls.
        lengths: [G] m instead of one length for all.
    """
    count = len(roots)
    spread = np.clip(1 + growth.length_spread * rng.normal(size=count), 0.4, 1.6)
    length = (np.full(count, growth.length) if lengths is None else lengths) * spread
    step = (length / growth.steps)[:, None]
    layer = rng.random(count) ** 0.7 * growth.volume + 0.0015
    flat = comb - (comb * normals).sum(1, keepdims=True) * normals
    direction = _unit(growth.lift * normals + flat + 0.08 * rng.normal(size=(count, 3)))
    in_front = roots[:, 2] + 0.03 * rng.normal(size=count) > np.quantile(roots[:, 2], 1 - growth.front) - 1e-6
    sideways = np.where(roots[:, 0] + comb[:, 0] * 0.05 >= 0, 1.0, -1.0)
    point, points, outward = roots.copy(), [roots], [normals]
    turn = 1 - np.exp(-step / max(growth.bend, 1e-3))
    for k in range(1, growth.steps):
        fall = np.zeros((count, 3), np.float32)
        fall[:, 1] = -1.0
        low = smoothstep(0.0, -0.10, point[:, 1])
        fall[:, 2] = np.where(in_front, 0.45, -0.25) * low
        # hair closes in around the neck, and rests on what hair lies below it
        fall[:, 0] = -growth.drape * np.clip(point[:, 0] / 0.08, -1.2, 1.2) * smoothstep(0.02, -0.08, point[:, 1])
        fall[:, 2] -= growth.drape * np.clip((point[:, 2] + 0.02) / 0.09, -1, 1) * smoothstep(0.03, -0.06, point[:, 1])
        direction = _unit(direction * (1 - turn * growth.gravity) + fall * turn * growth.gravity)
        point = np.asarray(point + direction * step, np.float32)
        height = layer * min(1.0, k * float(step.mean()) / 0.025)
        point, surface, moved = obstacle.push_out(point, np.asarray(height, np.float32))
        inward = np.minimum((direction * surface).sum(1), 0.0) * (moved > 0)
        direction = _unit(direction - inward[:, None] * surface)
        if growth.keeps_face_free:
            sideways = np.where(np.abs(point[:, 0]) > 0.03, np.sign(point[:, 0]), sideways)
            point = _beside_the_face(point, sideways)
        points.append(point)
        outward.append(surface)
    curve, out = np.stack(points, 1), np.stack(outward, 1)
    away = _unit(curve - np.stack([0 * curve[..., 0], np.clip(curve[..., 1], -1, 0.06), 0 * curve[..., 0] - 0.03], -1))
    out = _unit(0.5 * out + 0.5 * away)
    seeds = roots[rng.choice(count, min(growth.clumps, count), replace=False)]
    clump = cKDTree(seeds).query(roots)[1].astype(np.int32)
    curve = _curled(curve, out, clump, step, growth, rng)
    if growth.keeps_face_free and growth.wave > 0:
        sideways = np.where(curve[:, growth.steps // 3 :, 0].mean(1) > 0, 1.0, -1.0)
        for k in range(1, growth.steps):
            curve[:, k] = _beside_the_face(curve[:, k], sideways)
    return Guides(curve, out, clump)


def _beside_the_face(points: Floats, sideways: Numbers) -> Floats:
    """Push points [G, 3] that hang before the face to its sides."""
    x, y, z = points.T
    width = 0.064 * smoothstep(0.105, 0.045, y) * smoothstep(0.02, 0.05, z)
    result = points.copy()
    result[:, 0] = np.where((width > 0.001) & (sideways * x < width) & (np.abs(x) < 0.1), sideways * width, x)
    return result


def _curled(curve: Floats, out: Floats, clump: Ints, step: Numbers, growth: Growth, rng: np.random.Generator) -> Floats:
    """Wind the curves [G, K, 3] into curls that grow from root to tip, alike within a clump."""
    count, steps = len(curve), curve.shape[1]
    if growth.wave > 0:
        travelled: Numbers = np.arange(steps) * step  # [G, K]
        phases, rates = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.8, 1.25, count)
        phase = phases[clump][:, None] + 0.35 * rng.normal(size=(count, 1))
        angle = phase + 2 * np.pi * travelled / growth.wavelength * rates[clump][:, None]
        side = _unit(np.cross(np.gradient(curve, axis=1), out))
        size = growth.wave * smoothstep(0.0, 0.06, travelled) * rng.uniform(0.7, 1.2, (count, 1))
        curve = np.asarray(
            curve + size[..., None] * (np.cos(angle)[..., None] * side + 0.8 * (np.sin(angle)[..., None]) * out),
            np.float32,
        )
    if growth.frizz > 0:
        loose = growth.frizz * np.linspace(0, 1, steps)[None, :, None]
        curve = np.asarray(curve + loose * np.cumsum(rng.normal(size=curve.shape), axis=1) / np.sqrt(steps), np.float32)
    return curve


def cards(
    name: str, guides: Guides, width: float, label: int, rng: np.random.Generator, *, tilt: float = 0.35
) -> tuple[Part, Strands]:
    """Ribbons along guides for a texture of strands: flat on the head, wide in the middle, narrow at the tips."""
    # outer layers are drawn first: what lies below them then fails the depth test before its texture is read
    order = np.argsort(-np.linalg.norm(guides.points[:, guides.points.shape[1] // 2] - SKULL_CENTER, axis=1))
    points, out = guides.points[order], guides.outward[order]
    count, steps = len(points), points.shape[1]
    tangent = _unit(np.gradient(points, axis=1))
    side = _unit(np.cross(tangent, out) + tilt * rng.normal(size=(count, 1, 1)) * out)
    place = np.linspace(0, 1, steps)
    profile: Numbers = width * (0.55 + 0.45 * smoothstep(0, 0.25, place)) * (1 - 0.6 * smoothstep(0.55, 1.0, place))
    profile = profile * rng.uniform(0.6, 1.4, (count, 1))
    half = 0.5 * profile[..., None] * side
    vertices = np.stack([points - half, points + half], 2).reshape(-1, 3)
    face = _unit(np.cross(side, tangent))
    face = face * np.where((face * out).sum(-1, keepdims=True) < 0, -1, 1)
    normals = _unit(0.55 * face + 0.45 * out + 0.18 * rng.normal(size=(count, 1, 3)))
    rounded = np.repeat(normals[:, :, None], 2, 2) + np.array([-0.3, 0.3])[:, None] * side[:, :, None]
    column = rng.integers(0, COLUMNS, count)
    lower = (np.arange(count)[:, None] * steps + np.arange(steps - 1)).ravel() * 2  # left vertex of each rung
    triangles = np.stack([lower, lower + 1, lower + 3, lower, lower + 3, lower + 2], 1).reshape(-1, 3)
    uv = np.empty((count, steps, 2, 2), np.float32)
    uv[..., 0] = ((column[:, None] + np.array([0.04, 0.96])) / COLUMNS)[:, None]
    uv[..., 1] = (0.995 - 0.99 * place)[None, :, None]
    part = Part(
        name,
        vertices.astype(np.float32),
        triangles.astype(np.int32),
        np.ascontiguousarray(uv.reshape(-1, 2)[triangles]),
        np.full(len(vertices), label, np.uint8),
        kind=KIND_HAIR,
        alpha=ALPHA_TEXTURE,
        normals=_unit(rounded.reshape(-1, 3)),
    )
    lock = rng.random(count)
    return part, Strands(
        np.tile(np.repeat(place, 2), count).astype(np.float32), np.repeat(lock, 2 * steps).astype(np.float32)
    )


def tubes(
    name: str, guides: Guides, radius: float, label: int, rng: np.random.Generator, *, sides: int = 5
) -> tuple[Part, Strands]:
    """Twists, braids and dreadlocks: round, lumpy strands along guides, closed at the tip."""
    points = guides.points
    count, steps = len(points), points.shape[1]
    tangent = _unit(np.gradient(points, axis=1))
    across = _unit(np.cross(tangent, guides.outward))
    up = np.cross(across, tangent)
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.cos(angle)[:, None] * across[:, :, None] + np.sin(angle)[:, None] * up[:, :, None]  # [G, K, S, 3]
    place = np.linspace(0, 1, steps)
    size = radius * rng.uniform(0.75, 1.25, (count, 1)) * (1 - 0.35 * place) * rng.uniform(0.8, 1.2, (count, steps))
    size[:, -1] *= 0.3
    vertices = points[:, :, None] + ring * size[..., None, None]
    first = (np.arange(count)[:, None] * steps + np.arange(steps - 1)).ravel() * sides
    here, after = np.arange(sides), (np.arange(sides) + 1) % sides
    a, b = first[:, None] + here, first[:, None] + after
    triangles = np.concatenate(
        [np.stack([a, b, b + sides], -1).reshape(-1, 3), np.stack([a, b + sides, a + sides], -1).reshape(-1, 3)]
    ).astype(np.int32)
    flat = vertices.reshape(-1, 3).astype(np.float32)
    part = Part(
        name,
        flat,
        triangles,
        np.zeros((len(triangles), 3, 2), np.float32),
        np.full(len(flat), label, np.uint8),
        kind=KIND_PLAIN,
        alpha=ALPHA_FADE,
        normals=_unit(ring.reshape(-1, 3)),
        surface=np.tile(np.array([1.0, 0.7, 1.0], np.float32), (len(flat), 1)),
    )
    lock = np.repeat(rng.random(count), steps * sides)
    along = np.tile(np.repeat(place, sides), count)
    return part, Strands(along.astype(np.float32), lock.astype(np.float32))


def strands_of(part: Part, rng: np.random.Generator) -> Strands:
    """Root-to-tip coordinate and locks of hair that did not grow from guides, from its shape alone."""
    offset = part.vertices - SKULL_CENTER
    hanging = np.clip(-offset[:, 1] / max(0.1, float(-offset[:, 1].min())), 0, 1)
    standing = np.clip((np.linalg.norm(offset, axis=1) - 0.10) / 0.1, 0, 1)
    lock = 0.5 + 0.22 * smooth_noise(part.vertices * np.array([1, 0.25, 1]), 150.0, rng)
    return Strands(
        np.asarray(np.maximum(hanging, 0.5 * standing), np.float32), np.asarray(np.clip(lock, 0, 1), np.float32)
    )


def _unit(vectors: Numbers) -> Floats:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9), np.float32)
