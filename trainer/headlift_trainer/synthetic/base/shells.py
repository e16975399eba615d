"""The skin of the base mesh, and shells that float above a region of it.

A shell copies the triangles of a region, refines them and lifts them off: clothes, cropped and curly hair, beards.
Its border is where a smooth field crosses zero, decided per sample, so it never follows the triangles' edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Classes, Floats, Ints
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.noise import smooth_noise
from headlift_trainer.synthetic.render.compiled import ALPHA_FADE, KIND_SKIN
from headlift_trainer.synthetic.render.scene import Part, vertex_normals

_WINDOW = (0.42, -0.55)  # m on the mean head: skin is kept for |x| below and y above


@dataclass(frozen=True)
class Body:
    """The skin of one head. Legend: N base vertices."""

    topology: Topology
    vertices: Floats  # [N, 3] m, canonical frame
    normals: Floats  # [N, 3]

    @classmethod
    def of(cls, topology: Topology, vertices: Floats) -> Body:
        """Skin with normals of its own."""
        return cls(topology, vertices, vertex_normals(vertices, topology.triangles))


def skin_part(body: Body, cover: Floats, classes: Classes, surface: Floats) -> Part:
    """The skin, without what lies deep under clothes (cover > 7 cm) or far outside every picture."""
    topology = body.topology
    keep = _in_window(topology) & (cover < 0.07)
    chosen = keep[topology.triangles].all(1)
    return Part(
        "skin",
        body.vertices,
        topology.triangles[chosen],
        topology.corner_uvs[chosen],
        classes,
        kind=KIND_SKIN,
        normals=body.normals,
        surface=surface,
    )


def _in_window(topology: Topology) -> NDArray[np.bool_]:
    """[N] whether a vertex can be seen in any picture: not hands and legs."""
    return (np.abs(topology.mean[:, 0]) < _WINDOW[0]) & (topology.mean[:, 1] > _WINDOW[1])


@dataclass(frozen=True)
class Shell:
    """What a shell is made of, apart from where it grows."""

    name: str
    label: int  # class of all its vertices
    kind: int  # of the shading
    fade_width: float  # m, width of the translucent border
    refinements: int  # how often triangles are cut in four
    lump_size: float  # relative size of noise on the height
    lump_frequency: float  # rad/m
    ragged: float = 0.0  # m, noise on the border
    droop: float = 0.0  # how far a point hangs down, relative to its height
    texture_scale: float = 8.0  # tiles per metre
    grain: float = 0.0  # strength of the speckle
    fine_border: float = np.inf  # m, refinements after the first are only made where the field is below


def shell_part(body: Body, shell: Shell, field: Floats, height: Floats, rng: np.random.Generator) -> Part:
    """A shell above the skin.

    Args:
        body: What it floats on.
        shell: What it is made of.
        field: [N] m; the shell is where it is positive, opaque from half the fade width on.
        height: [N] m above the skin.
        rng: For the noise.
    """
    triangles = body.topology.triangles
    inside = (field[triangles] > -0.5 * shell.fade_width - 2.5 * shell.ragged).any(1)
    triangles = triangles[inside & _in_window(body.topology)[triangles].all(1)]
    table = np.concatenate([body.vertices, body.normals, body.topology.mean, field[:, None], height[:, None]], 1)
    for round_ in range(shell.refinements):
        border = np.ones(len(triangles), bool) if round_ == 0 else (table[triangles, 9] < shell.fine_border).any(1)
        table, finer = _refined(table, triangles[border])
        triangles = np.concatenate([triangles[~border], finer])
    position, normal, rest, field, height = table[:, :3], table[:, 3:6], table[:, 6:9], table[:, 9], table[:, 10]
    normal = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)
    if shell.ragged:
        field = field + shell.ragged * smooth_noise(rest, 350.0, rng)
    coarse = smooth_noise(rest, shell.lump_frequency, rng)
    lumps = coarse + 0.5 * smooth_noise(rest, 2 * shell.lump_frequency, rng)
    height = height * np.clip(1 + 0.6 * shell.lump_size * lumps, 0.2, 2.5)
    lifted = position + normal * height[:, None]
    lifted[:, 1] -= shell.droop * height
    # flat coordinates from the front, a little of the depth mixed in so that flanks are not smeared
    tiles = (rest[:, :2] + 0.4 * rest[:, 2:]) * shell.texture_scale
    part = Part(
        shell.name,
        lifted.astype(np.float32),
        triangles,
        tiles[triangles].astype(np.float32),
        np.full(len(table), shell.label, np.uint8),
        kind=shell.kind,
        alpha=ALPHA_FADE,
        surface=np.tile(np.array([1.0, shell.grain, 1.0], np.float32), (len(table), 1)),
        fade=(0.5 + field / shell.fade_width).astype(np.float32),
    )
    return part.compact()


def _refined(table: Floats, triangles: Ints) -> tuple[Floats, Ints]:
    """Cut every triangle in four at the middles of its edges; `table` holds what is interpolated."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    middle = (inverse.reshape(3, -1) + len(table)).astype(np.int32)
    a, b, c = triangles.T
    ab, bc, ca = middle
    refined = np.concatenate([np.stack(corner, 1) for corner in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return np.concatenate([table, table[unique].mean(1)]), refined.astype(np.int32)
