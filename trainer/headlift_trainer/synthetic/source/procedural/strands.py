"""Hair as locks: textured ribbons that grow from the scalp, fall under gravity and slide over head and shoulders.

Legend: L locks, K points along a lock, N vertices of the base mesh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.classes import HAIR
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.synthetic.render.compiled import ALPHA_TEXTURE, KIND_HAIR
from headlift_trainer.synthetic.render.scene import Part

_POINTS = 12
_CROWN = np.array([0.0, 0.130, -0.035])  # m, where the hair parts its ways
_SKULL = np.array([0.0, 0.045, -0.020])


@dataclass(frozen=True)
class Cut:
    """A hair cut."""

    length: float  # m, at the crown
    fringe: float  # m, of locks that would fall over the face
    width: float  # m, of a lock
    curl: float  # m, radius of the waves
    waves: float  # per metre
    lift: float  # m above the skin
    parting: float  # m, x of the parting; where |x| is larger than 5 cm there is none
    back: float = 0.0  # 0 falls as it will, 1 combed back
    locks: int = 1500


def sample_cut(rng: np.random.Generator, style: str) -> Cut:
    """Draw a cut of a style: `short`, `bob`, `long`, `bun`."""
    parting = float(rng.uniform(-0.04, 0.04) if style != "short" or rng.random() < 0.5 else 0.2)
    curl = float(rng.uniform(0.001, 0.008) if rng.random() < 0.4 else rng.uniform(0, 0.0012))
    waves = float(rng.uniform(60, 220))
    plain = Cut(0.0, 0.0, 0.009, curl, waves, 0.009, parting)
    if style == "short":
        length, back = float(rng.uniform(0.03, 0.07)), float(rng.uniform(0, 0.9))
        return replace(plain, length=length, fringe=0.035, width=0.008, lift=0.006, back=back)
    if style == "bun":
        return replace(plain, length=0.16, fringe=0.16, lift=0.006, back=1.0, parting=0.2, curl=0.0)
    if style == "bob":
        length, fringe = float(rng.uniform(0.16, 0.23)), float(rng.choice([0.055, 0.20], p=[0.4, 0.6]))
        return replace(plain, length=length, fringe=fringe, width=0.010)
    length, fringe = float(rng.uniform(0.28, 0.42)), float(rng.choice([0.055, 0.30], p=[0.2, 0.8]))
    return replace(plain, length=length, fringe=fringe, width=0.011, locks=1800)


def lock_part(body: Body, cut: Cut, hairline: Floats, rng: np.random.Generator) -> Part:
    """Ribbons of a cut on this head."""
    roots, normals = _roots(body, cut.locks, hairline, rng)
    paths, outward = _grown(body, roots, normals, cut, rng)
    return _ribbons(paths, outward, cut, rng)


def bun_part(body: Body, rng: np.random.Generator) -> Part:
    """A knot of hair at the back of the head."""
    rows, columns = 14, 24
    polar, around = np.meshgrid(np.linspace(0.01, np.pi - 0.01, rows), np.linspace(0, 2 * np.pi, columns + 1))
    ball = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1)
    twist = 1 + 0.06 * np.sin(5 * around + 6 * polar)
    size = rng.uniform(0.026, 0.040)
    height = rng.uniform(0.02, 0.115)
    back = body.vertices[np.abs(body.vertices[:, 0]) < 0.02]
    back = back[np.abs(back[:, 1] - height) < 0.01]
    center = np.array([0.0, height, back[:, 2].min() - 0.55 * size])
    points = (center + size * ball * twist[..., None] * np.array([1.0, 1.0, 0.85])).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(columns), np.arange(rows - 1), indexing="ij")
    a = row * rows + column
    quad = np.stack([a, a + 1, a + rows + 1, a + rows], -1).reshape(-1, 4)
    triangles = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]).astype(np.int32)
    grain = np.tile(np.array([1.0, 0.5, 1.0], np.float32), (len(points), 1))
    return Part(
        "bun",
        points.astype(np.float32),
        triangles,
        np.zeros((len(triangles), 3, 2), np.float32),
        np.full(len(points), HAIR, np.uint8),
        kind=KIND_HAIR,
        surface=grain,
    )


def _roots(body: Body, count: int, hairline: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Roots [L, 3] even over the scalp, and the skin's normals there."""
    triangles = body.topology.triangles
    triangles = triangles[(hairline[triangles] > 0.001).all(1)]
    corners = body.vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    edge = np.exp(-hairline[triangles].mean(1) / 0.008)  # denser at the border, which is looked at
    weight = area * (1 + 1.5 * edge)
    chosen = triangles[rng.choice(len(triangles), count, p=weight / weight.sum())]
    share = rng.dirichlet([1.0, 1.0, 1.0], count)
    return (
        np.einsum("lk,lkd->ld", share, body.vertices[chosen]).astype(np.float32),
        np.einsum("lk,lkd->ld", share, body.normals[chosen]).astype(np.float32),
    )


def _grown(
    body: Body, roots: Floats, normals: Floats, cut: Cut, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points [L, K, 3] of the locks and the way out of the head at each."""
    length = _lengths(roots, cut, rng)
    step = length / (_POINTS - 1)
    solid = _solid(body)
    tree = cKDTree(solid[0])
    direction = _first_direction(roots, normals, cut, rng)
    place = roots.astype(np.float64) + 0.0005 * normals
    paths, ways = [place], [normals.astype(np.float64)]
    layer = cut.lift * (0.25 + 0.75 * rng.random(len(roots)))
    pull = np.array([0.0, -1.0, 0.0]) if cut.back < 0.95 else np.zeros(3)
    for k in range(1, _POINTS):
        wanted = direction + pull * np.minimum(1.0, 24.0 * step)[:, None]
        if cut.back > 0:
            knot = np.array([0.0, 0.06, -0.115]) - place
            near = np.clip(np.linalg.norm(knot, axis=1, keepdims=True) / 0.02, 0, 1)
            wanted = wanted + 0.55 * cut.back * near * knot / (np.linalg.norm(knot, axis=1, keepdims=True) + 1e-6)
        direction = wanted / (np.linalg.norm(wanted, axis=1, keepdims=True) + 1e-9)
        place = place + direction * step[:, None]
        if cut.length > 0.1 and cut.back < 0.5:
            place = _off_the_face(place)
        _, near_skin = tree.query(place)
        normal = solid[1][near_skin]
        height = ((place - solid[0][near_skin]) * normal).sum(1)
        least = layer * min(1.0, k / 3)
        place = place + normal * np.maximum(0.0, least - height)[:, None]
        # hair lies on hair: what leaves the head is drawn back, and what hangs comes to rest
        off = np.maximum((direction * normal).sum(1), 0.0) * (height < 0.05)
        direction = direction - (0.45 * off)[:, None] * normal
        direction[:, [0, 2]] *= 1.0 if k < 4 else 0.75
        into = np.minimum((direction * normal).sum(1), 0.0) * (height < least + 0.002)
        direction = direction - into[:, None] * normal
        outward = place - _SKULL
        outward[:, 1] *= 0.4
        outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-9
        paths.append(place)
        ways.append(0.5 * normal + 0.5 * outward)
    return np.stack(paths, 1), np.stack(ways, 1)


def _off_the_face(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Long hair is parted like a curtain: what hangs before the face moves aside."""
    x, y, z = place.astype(np.float32).T
    before = smoothstep(0.0, 0.03, z) * smoothstep(0.075, 0.045, y) * smoothstep(-0.14, -0.10, y)
    aside = np.where(x >= 0, 1.0, -1.0) * np.maximum(0.058 - np.abs(x), 0.0) * before
    return np.asarray(place + np.stack([aside, np.zeros_like(x), -0.4 * np.abs(aside)], 1))


def _solid(body: Body) -> tuple[Floats, Floats]:
    """Points of the skin that hair slides on, and their normals: no face folds, no far torso."""
    keep = (body.vertices[:, 1] > -0.30) & ~body.topology.mouth_inside & ~body.topology.ear
    chosen = np.flatnonzero(keep)[::2]
    return body.vertices[chosen], body.normals[chosen]


def _lengths(roots: Floats, cut: Cut, rng: np.random.Generator) -> NDArray[np.float64]:
    """[L] m: full at crown and back, the fringe's at the front, shorter at the nape so that the ends meet."""
    x, _, z = roots.T
    falls = cut.length - np.linalg.norm(roots - _CROWN, axis=1) * (0.55 if cut.length > 0.1 else 0.15)
    front = smoothstep(0.025, 0.055, z) * smoothstep(0.075, 0.055, np.abs(x - np.clip(cut.parting, -0.05, 0.05)))
    fringe = cut.fringe if cut.back < 0.5 else cut.length
    length = falls * (1 - front) + np.minimum(fringe, cut.length) * front
    return np.asarray(np.maximum(length, 0.02) * rng.uniform(0.88, 1.08, len(roots)))


def _first_direction(roots: Floats, normals: Floats, cut: Cut, rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit vectors [L, 3] along the scalp: away from the parting, or from the crown where there is none."""
    flow = roots - _CROWN
    flow[:, 1] = 0.0
    if abs(cut.parting) < 0.05:
        side = np.sign(roots[:, 0] - cut.parting)
        combed = np.stack([side, np.zeros(len(roots)), 0.15 * np.sign(roots[:, 2])], 1)
        front = smoothstep(-0.06, 0.0, roots[:, 2])[:, None]
        flow = flow / (np.linalg.norm(flow, axis=1, keepdims=True) + 1e-6) * (1 - front) + combed * front
    flow = flow / (np.linalg.norm(flow, axis=1, keepdims=True) + 1e-6)
    # at the sides the way from the crown leads off the head: there hair starts downward
    low = smoothstep(0.105, 0.045, roots[:, 1])[:, None] * smoothstep(0.03, -0.02, roots[:, 2])[:, None]
    flow = flow * (1 - low) + low * np.array([0.0, -1.0, -0.25])
    flow = flow * (1 - cut.back) + cut.back * np.array([0.0, 0.1, -1.0])
    flow = flow + 0.08 * rng.normal(size=flow.shape)
    flow = flow - (flow * normals).sum(1, keepdims=True) * normals + 0.15 * normals
    return np.asarray(flow / (np.linalg.norm(flow, axis=1, keepdims=True) + 1e-9), np.float64)


def _ribbons(paths: NDArray[np.float64], outward: NDArray[np.float64], cut: Cut, rng: np.random.Generator) -> Part:
    count, points = paths.shape[:2]
    tangent = np.gradient(paths, axis=1)
    across = np.cross(outward, tangent)
    across /= np.linalg.norm(across, axis=2, keepdims=True) + 1e-9
    along = np.concatenate([np.zeros((count, 1)), np.cumsum(np.linalg.norm(np.diff(paths, axis=1), axis=2), 1)], 1)
    # neighbours wave together: the phase is a smooth function of the root
    phase = 60.0 * paths[:, :1] @ np.array([0.9, 0.5, 1.1]) + rng.normal(0, 0.35, (count, 1))
    wave = cut.curl * np.sin(cut.waves * along + phase) * np.clip(along / 0.05, 0, 1)
    paths = paths + across * wave[..., None] + outward * (0.4 * np.abs(wave))[..., None]
    half = 0.5 * cut.width * rng.uniform(0.7, 1.3, (count, 1)) * np.linspace(1.0, 0.65, points)[None]
    left, right = paths - across * half[..., None], paths + across * half[..., None]
    vertices = np.stack([left, right], 2).reshape(-1, 3)
    lean = across * 0.25
    normals = np.stack([outward - lean, outward + lean], 2).reshape(-1, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    start = (np.arange(count)[:, None] * points + np.arange(points - 1)[None]).ravel() * 2
    triangles = np.concatenate(
        [np.stack([start, start + 2, start + 1], 1), np.stack([start + 1, start + 2, start + 3], 1)]
    )
    flipped = np.repeat(rng.random(count) < 0.5, 2 * points)  # half the locks wear the picture mirrored
    u = np.where(flipped, 0.99, 0.01) + np.where(flipped, -0.98, 0.98) * np.tile([0.0, 1.0], count * points)
    v = 1.0 - np.tile(np.repeat(np.linspace(0.005, 0.995, points), 2), count)
    uv = np.stack([u, v], 1).astype(np.float32)
    return Part(
        "hair",
        vertices.astype(np.float32),
        triangles.astype(np.int32),
        uv[triangles],
        np.full(len(vertices), HAIR, np.uint8),
        kind=KIND_HAIR,
        alpha=ALPHA_TEXTURE,
        normals=normals.astype(np.float32),
    )
