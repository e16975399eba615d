"""Glasses, earrings and necklaces, made to measure for one head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Numbers
from headlift_trainer.synthetic.base.identity import Person
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.classes import EARRING, GLASSES, NECKLACE
from headlift_trainer.synthetic.render.compiled import ALPHA_FADE, KIND_EYE, KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part

Piece = tuple[Numbers, NDArray[np.int64], Numbers]  # vertices, triangles, normals

GLASSES_SHAPES = ("round", "square", "oval", "aviator", "cat eye")
_EYE_X, _EYE_Y = 0.0315, 0.026  # m, middle of a lens
_NECK_AXIS_Z = -0.045


@dataclass(frozen=True)
class Accessories:
    """What one head wears apart from hats and clothes."""

    parts: tuple[Part, ...]
    glasses: str = "none"  # a shape, with `tinted` or `thick` before it
    earrings: str = "none"
    necklace: str = "none"


def sample_accessories(rng: np.random.Generator, person: Person, body: Body) -> Accessories:
    """Draw what a person wears: glasses for every fifth, earrings and necklaces mostly for women."""
    parts: list[Part] = []
    glasses = earrings = necklace = "none"
    if rng.random() < 0.15 + 0.15 * max(0.0, 2 * person.age - 1):
        glasses, made = _glasses(body, rng)
        parts += made
    if rng.random() < (0.05 if person.is_male else 0.35):
        earrings = str(rng.choice(["stud", "hoop", "drop"]))
        parts += _earrings(earrings, body, rng)
    if rng.random() < (0.04 if person.is_male else 0.15):
        necklace = str(rng.choice(["chain", "beads"]))
        parts.append(_necklace(necklace, body, rng))
    return Accessories(tuple(parts), glasses, earrings, necklace)


def _glasses(body: Body, rng: np.random.Generator) -> tuple[str, list[Part]]:
    shape = str(rng.choice(GLASSES_SHAPES, p=[0.28, 0.36, 0.16, 0.12, 0.08]))
    thick = shape != "aviator" and rng.random() < 0.5
    tint = float(rng.uniform(0.55, 0.97)) if rng.random() < (0.5 if shape == "aviator" else 0.18) else 0.0
    half = np.array([rng.uniform(0.0215, 0.0255), rng.uniform(0.015, 0.0225)])
    if shape == "round":
        half[1] = half[0] * rng.uniform(0.88, 1.0)
    middle = np.array([max(_EYE_X, half[0] + rng.uniform(0.0085, 0.010)), _EYE_Y - 0.08 * half[1]])
    outline = _outline(shape, half)
    plane = _lens_plane(body, middle, half)
    rims = []
    parts = []
    radius = rng.uniform(0.0016, 0.0028) if thick else rng.uniform(0.0007, 0.0012)
    pieces = []
    for side in (1, -1):
        rim = np.stack([side * (middle[0] + outline[:, 0]), middle[1] + outline[:, 1], np.zeros(len(outline))], 1)
        rim[:, 2] = plane - _wrap(rim[:, 0])
        rims.append(rim)
        pieces.append(_swept(rim, radius, radius * rng.uniform(0.8, 1.3), closed=True))
        pieces.append(_swept(_temple(rim, side, body), radius * 0.9, radius * 1.4, closed=False))
        parts.append(_lens(rim, side, tint if tint else 0.045))
    inner = [rim[np.argmin(np.abs(rim[:, 0]))] for rim in rims]
    arch = np.linspace(inner[1], inner[0], 7)
    arch[:, 1] += 0.004 + 0.003 * np.sin(np.linspace(0, np.pi, 7))
    arch[:, 2] += 0.0025 * np.sin(np.linspace(0, np.pi, 7))
    pieces.append(_swept(arch, radius, radius, closed=False))
    frame = _joined("glasses frame", pieces, GLASSES)
    kind = ("tinted " if tint else "") + ("thick " if thick else "") + shape
    return kind, [frame, *parts]


def _outline(shape: str, half: Numbers) -> Numbers:
    """[40, 2] m, a lens around its middle: +x to the temple."""
    angle = 2 * np.pi * np.arange(40) / 40
    power = {"round": 1.0, "oval": 1.0, "square": 0.55, "aviator": 0.8, "cat eye": 0.7}[shape]
    cosine, sine = np.cos(angle), np.sin(angle)
    x = np.sign(cosine) * np.abs(cosine) ** power * half[0]
    y = np.sign(sine) * np.abs(sine) ** power * half[1]
    if shape == "aviator":  # a drop that hangs to the outside
        y = np.where(y < 0, y * 1.25, y * 0.85)
        x = x + 0.004 * np.clip(-y / half[1], 0, 1)
    if shape == "cat eye":
        y = y + 0.006 * np.clip(x / half[0], 0, 1) * (y > 0)
    return np.stack([x, y], 1)


def _wrap(x: Numbers) -> Numbers:
    """How far lenses bend back around the face at x, m."""
    return np.asarray(3.5 * np.maximum(np.abs(x) - 0.02, 0) ** 2)


def _lens_plane(body: Body, middle: Numbers, half: Numbers) -> float:
    """z of the lenses, m: before all skin that they cover, the foot of the nose aside."""
    v = body.vertices[np.unique(body.topology.triangles)]
    across, up = (np.abs(v[:, 0]) - middle[0]) / half[0], (v[:, 1] - middle[1]) / half[1]
    covered = (across**2 + up**2 < 1.0) & (v[:, 2] > 0.0) & (across - up > -1.15)
    lids = covered & (np.abs(v[:, 1] - 0.028) < 0.008)
    reach = v[:, 2] + _wrap(v[:, 0])
    deepest = [float(reach[chosen].max()) + gap for chosen, gap in ((covered, 0.0035), (lids, 0.008)) if chosen.any()]
    return max(deepest, default=0.07)


def _temple(rim: Numbers, side: int, body: Body) -> Numbers:
    """[K, 3] from the hinge past the temple, over the ear and behind it."""
    hinge = rim[np.argmax(rim[:, 0] * side + 0.3 * rim[:, 1])]
    v = body.vertices
    ear = v[body.topology.ear & (v[:, 0] * side > 0)]
    skin = np.unique(body.topology.triangles)
    near = v[skin[(np.abs(v[skin, 1] - 0.032) < 0.012) & (v[skin, 2] < 0.045) & ~body.topology.ear[skin]]]
    wide = max(float((near[:, 0] * side).max(initial=0.06)), abs(float(hinge[0]))) + 0.002
    if len(ear):
        top = np.array([0.0, ear[:, 1].max() - 0.008, 0.5 * (ear[:, 2].max() + ear[:, 2].min())])
    else:
        top = np.array([0.0, 0.03, -0.015])
    corner = np.array([side * wide, hinge[1], min(hinge[2] - 0.012, 0.045)])
    over = np.array([side * wide, top[1], top[2]])
    behind = np.array([side * (wide - 0.004), top[1] - 0.022, top[2] - 0.016])
    path = np.concatenate(
        [np.linspace(hinge, corner, 4)[:-1], np.linspace(corner, over, 6)[:-1], np.linspace(over, behind, 4)]
    )
    return np.asarray(path, np.float64)


def _lens(rim: Numbers, side: int, opacity: float) -> Part:
    """A pane that fills a rim: weak, or as dark as sunglasses."""
    vertices = np.concatenate([rim.mean(0, keepdims=True), rim]).astype(np.float32)
    vertices[0, 2] += 0.001
    count = len(rim)
    ring = np.arange(count)
    triangles = np.stack([np.zeros(count, int), 1 + ring, 1 + (ring + 1) % count], 1)
    if side < 0:
        triangles = triangles[:, ::-1]
    normals = vertices - vertices[0] + np.array([0, 0, 0.05], np.float32)
    return Part(
        f"glasses lens {'left' if side > 0 else 'right'}",
        vertices,
        np.ascontiguousarray(triangles, np.int32),
        np.zeros((count, 3, 2), np.float32),
        np.full(len(vertices), GLASSES, np.uint8),
        kind=KIND_EYE,
        alpha=ALPHA_FADE,
        normals=(normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        fade=np.full(len(vertices), opacity, np.float32),
        casts_shadow=opacity > 0.3,
    )


def _earrings(style: str, body: Body, rng: np.random.Generator) -> list[Part]:
    size = {"stud": rng.uniform(0.0022, 0.0045), "hoop": rng.uniform(0.008, 0.024), "drop": rng.uniform(0.012, 0.035)}
    pieces = []
    bold = rng.uniform(0.0007, 0.0018)
    for side in (1, -1):
        ear = body.vertices[body.topology.ear & (body.vertices[:, 0] * side > 0)]
        if not len(ear):
            continue
        lobe = ear[ear[:, 1] < ear[:, 1].min() + 0.007].mean(0)
        lobe = lobe + np.array([side * 0.003, 0.001, 0.002])
        if style == "hoop":
            angle = np.linspace(0, 2 * np.pi, 25)[:-1]
            circle = np.stack([0.15 * np.sin(angle), np.cos(angle) - 1, np.sin(angle)], 1) * size[style]
            pieces.append(_swept(lobe + circle, bold, bold, closed=True))
        elif style == "stud":
            pieces.append(_bead(lobe, size[style]))
        else:
            end = lobe + np.array([side * 0.001, -size[style], 0])
            pieces.append(_swept(np.linspace(lobe, end, 4), 0.0006, 0.0006, closed=False))
            pieces.append(_bead(end, size[style] * 0.22, stretch=1.6))
    return [_joined("earrings", pieces, EARRING)] if pieces else []


def _necklace(style: str, body: Body, rng: np.random.Generator) -> Part:
    """A ring about the foot of the neck that hangs lower in front."""
    azimuth = np.linspace(-np.pi, np.pi, 91)[:-1]
    drop = rng.uniform(0.0, 0.05)
    height = -0.118 - (0.02 + drop) * (0.5 + 0.5 * np.cos(azimuth)) ** 2
    radius = around(body, azimuth, height) + 0.0022
    loop = np.stack([radius * np.sin(azimuth), height, radius * np.cos(azimuth) + _NECK_AXIS_Z], 1)
    if style == "chain":
        thick = rng.uniform(0.0007, 0.0018)
        return _joined("necklace", [_swept(loop, thick, thick, closed=True)], NECKLACE)
    size = rng.uniform(0.0022, 0.0042)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(loop, axis=0, append=loop[:1]), axis=1))])
    closed = np.concatenate([loop, loop[:1]])
    places = np.arange(0, length[-1], 2.1 * size)
    centers = np.stack([np.interp(places, length, closed[:, k]) for k in range(3)], 1)
    return _joined("necklace", [_bead(center, size, steps=5) for center in centers], NECKLACE)


def around(body: Body, azimuth: Numbers, height: Numbers, *, ears: bool = False) -> Numbers:
    """Distance [K] of the skin from the neck's upright axis at azimuths (0 front) and heights (m) [K]."""
    used = np.unique(body.topology.triangles)
    hidden = body.topology.mouth_inside | body.topology.eye_socket
    if not ears:
        hidden = hidden | body.topology.ear
    v = body.vertices[used[~hidden[used]]]
    v = v[(np.abs(v[:, 0]) < 0.2) & (v[:, 1] > -0.3)]
    flat = np.hypot(v[:, 0], v[:, 2] - _NECK_AXIS_Z)
    angle = np.arctan2(v[:, 0], v[:, 2] - _NECK_AXIS_Z)
    scale = 0.09
    table = np.concatenate([np.stack([(angle + turn) * scale, v[:, 1]], 1) for turn in (-2 * np.pi, 0, 2 * np.pi)])
    distance, near = cKDTree(table).query(np.stack([azimuth * scale, height], 1), k=4)
    weight = 1 / (distance + 1e-3)
    return np.asarray((np.tile(flat, 3)[near] * weight).sum(1) / weight.sum(1), np.float64)


def _swept(path: Numbers, across: float, along_y: float, *, closed: bool, sides: int = 6) -> Piece:
    """Vertices, triangles and normals of a rod along a path [K, 3]."""
    count = len(path)
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    tangent = ahead / (np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9)
    helper = np.where(np.abs(tangent[:, 2:]) > 0.8, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]])
    first = np.cross(tangent, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(first, tangent)
    angle = 2 * np.pi * np.arange(sides) / sides
    ring = np.cos(angle)[:, None] * first[:, None] * along_y + np.sin(angle)[:, None] * second[:, None] * across
    vertices = (path[:, None] + ring).reshape(-1, 3)
    rows = np.arange(count if closed else count - 1)
    after = (rows + 1) % count
    here, there = np.arange(sides), (np.arange(sides) + 1) % sides
    a, b = rows[:, None] * sides + here, rows[:, None] * sides + there
    c, d = after[:, None] * sides + there, after[:, None] * sides + here
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    flat = ring.reshape(-1, 3)
    return vertices, triangles, flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12)


def _bead(center: Numbers, radius: float, *, stretch: float = 1.0, steps: int = 8) -> Piece:
    """Vertices, triangles and normals of a ball, or of a drop that is stretched upright."""
    polar, turn = np.meshgrid(
        np.linspace(0.05, np.pi - 0.05, steps), 2 * np.pi * np.arange(steps) / steps, indexing="ij"
    )
    unit = np.stack([np.sin(polar) * np.cos(turn), np.cos(polar) * stretch, np.sin(polar) * np.sin(turn)], -1)
    row, column = np.meshgrid(np.arange(steps - 1), np.arange(steps), indexing="ij")
    after = (column + 1) % steps
    a, b, c, d = row * steps + column, row * steps + after, (row + 1) * steps + after, (row + 1) * steps + column
    triangles = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    flat = unit.reshape(-1, 3)
    return center + radius * flat, triangles, flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _joined(name: str, pieces: list[Piece], label: int) -> Part:
    """Pieces as one part."""
    starts = np.cumsum([0, *(len(piece[0]) for piece in pieces)])[:-1]
    vertices = np.concatenate([piece[0] for piece in pieces]).astype(np.float32)
    triangles = np.concatenate([piece[1] + start for piece, start in zip(pieces, starts, strict=True)])
    return Part(
        name,
        vertices,
        triangles.astype(np.int32),
        np.zeros((len(triangles), 3, 2), np.float32),
        np.full(len(vertices), label, np.uint8),
        kind=KIND_PLAIN,
        normals=np.concatenate([piece[2] for piece in pieces]).astype(np.float32),
    )
