"""Eyes with lids and lashes, teeth and brows of procedural heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.shells import Body, Shell, shell_part
from headlift_trainer.synthetic.classes import BROW_L, BROW_R, EYE_L, EYE_R, FACE, MOUTH
from headlift_trainer.synthetic.render.compiled import KIND_EYE, KIND_PLAIN, KIND_SKIN
from headlift_trainer.synthetic.render.scene import Part
from headlift_trainer.synthetic.source.procedural.shape import Person, displaced
from headlift_trainer.template.anatomy import EYE, MOUTH_Y
from headlift_trainer.template.builtin_head import EYE_RADIUS

_BALL = EYE_RADIUS + 0.0004  # m
_LID = _BALL + 0.0007
_OPEN, _SHUT = np.radians(24.0), np.radians(-22.0)  # how high the upper lid's edge stands


def eye_parts(person: Person) -> list[Part]:
    """Eyeballs turned into the gaze, and upper lids with lashes that slide over them."""
    parts = [_eyeballs(person)]
    for side, label in ((1.0, "L"), (-1.0, "R")):
        parts.append(_lid(person, side, person.code.get(f"eyeBlink_{label}", 0.0)))
    return parts


def eye_center(person: Person, side: float) -> Floats:
    """[3] m, where an eyeball is on this head."""
    mean = np.array([EYE], np.float32) * np.array([side, 1.0, 1.0], np.float32)
    calm = Person(person.maleness, person.age, person.traits, "neutral", {}, seed=person.seed)
    return np.asarray(displaced(mean, calm)[0], np.float32)


def sink_sockets(body_vertices: Floats, socket: NDArray[np.bool_], person: Person) -> None:
    """Move the base mesh's own eyeballs back behind the ones that are drawn, in place."""
    for side in (1.0, -1.0):
        chosen = np.flatnonzero(socket & (body_vertices[:, 0] * side > 0))
        center = eye_center(person, side)
        ray = body_vertices[chosen] - center
        body_vertices[chosen] = center + ray * (0.0108 / np.linalg.norm(ray, axis=1, keepdims=True))


def _grid(rows: int, columns: int) -> NDArray[np.int32]:
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (row * columns + column).ravel()
    return np.concatenate(
        [np.stack([a, a + columns, a + 1], 1), np.stack([a + 1, a + columns, a + columns + 1], 1)]
    ).astype(np.int32)


def _eyeballs(person: Person) -> Part:
    """Front halves of two spheres; the picture of an eye is laid on along the gaze."""
    rows, columns = 20, 33
    polar, around = np.meshgrid(np.linspace(0, 1.45, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    ball = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], -1).reshape(-1, 3)
    yaw, pitch = np.radians(person.gaze_deg)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    cornea = 1 + 0.030 * np.exp(-((polar.ravel() / 0.36) ** 4))
    directed = (ball * cornea[:, None]) @ (turn @ nod).T
    both = np.concatenate([eye_center(person, side) + _BALL * directed for side in (1.0, -1.0)])
    triangles = _grid(rows, columns)
    triangles = np.concatenate([triangles, triangles + rows * columns])
    uv = np.tile(ball[:, :2] * 0.5 + 0.5, (2, 1)).astype(np.float32)
    normals = np.tile(ball @ (turn @ nod).T, (2, 1)).astype(np.float32)
    labels = np.repeat(np.array([EYE_L, EYE_R], np.uint8), rows * columns)
    return Part("eyes", both.astype(np.float32), triangles, uv[triangles], labels, kind=KIND_EYE, normals=normals)


def _lid(person: Person, side: float, blink: float) -> Part:
    """A cap of skin whose edge runs from corner to corner, dark at the edge where the lashes are."""
    rows, columns = 14, 25
    edge = _OPEN + (_SHUT - _OPEN) * blink
    along, down = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(0, 1, rows))
    azimuth = along * np.radians(84)
    corner = np.radians(-4.0)
    border = corner + (edge - corner) * np.sqrt(np.clip(1 - along**2, 0, 1))
    top = np.radians(72.0)
    elevation = top + (border - top) * down
    lash = down > 0.97
    radius = _LID + 0.0016 * lash * np.sqrt(np.clip(1 - along**2, 0, 1))
    direction = np.stack(
        [side * np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1
    )
    points = (eye_center(person, side) + radius[..., None] * direction).reshape(-1, 3)
    triangles = _grid(rows, columns)
    triangles = triangles if side > 0 else triangles[:, ::-1]
    surface = np.tile(np.array([0.0, 0.0, 0.8], np.float32), (rows * columns, 1))
    return Part(
        f"lid {'left' if side > 0 else 'right'}",
        points.astype(np.float32),
        np.ascontiguousarray(triangles),
        np.zeros((len(triangles), 3, 2), np.float32),
        np.where(lash.ravel(), EYE_L if side > 0 else EYE_R, FACE).astype(np.uint8),
        kind=KIND_SKIN,
        surface=surface,
        normals=direction.reshape(-1, 3).astype(np.float32),
    )


def is_lash(part: Part) -> NDArray[np.bool_]:
    """[V] which vertices of a lid are lashes."""
    return np.asarray(part.classes != FACE)


def teeth_part(person: Person) -> Part:
    """Two arches behind the lips, each a bent band; the lower follows the jaw."""
    rows, columns = 4, 33
    along, height = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(0, 1, rows))
    x = 0.0255 * along
    z = 0.0575 - 0.022 * np.abs(along) ** 2.2
    upper = np.stack([x, MOUTH_Y + 0.0002 + 0.0125 * height, z - 0.001 * height], -1).reshape(-1, 3)
    lower = np.stack([x * 0.92, MOUTH_Y - 0.0012 - 0.0110 * height, z - 0.0022], -1).reshape(-1, 3)
    calm = {name: weight for name, weight in person.code.items() if name == "jawOpen"}
    still = Person(person.maleness, person.age, person.traits, "", {}, seed=person.seed)
    moving = Person(person.maleness, person.age, person.traits, "", calm, seed=person.seed)
    # the bands are laid where the mesh is split by the jaw: they move as wholes, each with its own lips
    middle = np.array([[0.0, MOUTH_Y - 0.012, 0.060]], np.float32)
    swing = displaced(middle, moving)[0] - displaced(middle, still)[0]
    points = np.concatenate([upper, lower]).astype(np.float32)
    lips = np.array([[0.0, MOUTH_Y + 0.004, 0.072], [0.0, MOUTH_Y - 0.004, 0.071]], np.float32)
    shift = (displaced(lips, still) - lips).mean(0)
    points += shift * np.array([0.0, 1.0, 0.9], np.float32)
    points[len(upper) :] += swing
    triangles = _grid(rows, columns)
    triangles = np.concatenate([triangles[:, ::-1], triangles + rows * columns]).astype(np.int32)
    uv = np.stack([along.ravel() * 0.5 + 0.5, height.ravel() * 0.98 + 0.01], 1)
    tiled: Floats = np.tile(uv, (2, 1)).astype(np.float32)
    labels = np.full(len(points), MOUTH, np.uint8)
    return Part("teeth", points, triangles, tiled[triangles], labels, kind=KIND_PLAIN)


def brow_parts(body: Body, rng: np.random.Generator, maleness: float) -> list[Part]:
    """Two brows: short hair on an arched band above the eyes."""
    mean = body.topology.mean
    arch, low = rng.uniform(0.0, 0.0035), rng.uniform(-0.0015, 0.0012)
    thick = rng.uniform(0.0022, 0.0034) + 0.0010 * maleness
    parts = []
    for side, label in ((1.0, BROW_L), (-1.0, BROW_R)):
        x = mean[:, 0] * side
        share = np.clip((x - 0.0115) / 0.040, -0.3, 1.3)
        line = (
            0.0445
            + low
            + 0.0045 * np.sin(np.pi * np.clip(share, 0, 1) * 0.85)
            + arch * np.exp(-(((share - 0.68) / 0.25) ** 2))
        )
        line = line - 0.0035 * np.clip(share - 0.7, 0, None)
        half = thick * (1.0 - 0.60 * np.clip(share, 0, 1) ** 1.5)
        ends = np.minimum(share, 1 - share) * 0.040
        field = np.minimum(half - np.abs(mean[:, 1] - line), ends)
        field = np.where(mean[:, 2] > 0.025, field, -0.01)
        shell = Shell(
            f"brow {'left' if side > 0 else 'right'}",
            label,
            KIND_PLAIN,
            fade_width=0.0030,
            refinements=1,
            lump_size=0.1,
            lump_frequency=300.0,
            ragged=0.0005,
            grain=0.8,
        )
        height = np.full(len(mean), 0.0008, np.float32)
        parts.append(shell_part(body, shell, np.asarray(field, np.float32), height, rng))
    return parts
