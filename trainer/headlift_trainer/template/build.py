"""Makes templates: 65,536 anchors on a neutral head, in 4096 patches of 16 (paper section 3.2).

Anchors come from a mesh (the built-in head's or FLAME's) by sample elimination, denser on the face and ears, with
one more layer above the scalp where hair will be. Rows ``16 * q`` to ``16 * q + 15`` are patch q; patches follow each
other along a k-d tree, so that the anchors laid out as a 256 x 256 picture are smooth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift.errors import InvalidInputError
from headlift.model.template import ANCHORS, PATCH_SIZE, Region, Template
from headlift_trainer.template import builtin_head
from headlift_trainer.template.anatomy import HAIR_LIFT, above_hairline, density_at, regions_of
from headlift_trainer.template.flame import read_flame
from headlift_trainer.template.implicit import Array
from headlift_trainer.template.sampling import (
    Index,
    Samples,
    patch_order,
    sample_surface,
    side_aware,
    thin,
    vertex_normals,
)

HAIR_SHARE = 0.13  # of all anchors

Snap = Callable[[Array], tuple[Array, Array]]


@cache
def builtin_template() -> Template:
    """The template on our own head: exactly symmetric, the same on every call and machine."""
    vertices, faces, normals = builtin_head.head_mesh()
    return make_template(vertices, faces, name="builtin", normals=normals, mirrored=True, snap=builtin_head.snap)


def load_flame(path: str | Path) -> Template:
    """The template on FLAME's neutral head.

    Args:
        path: FLAME 2020 ``generic_model.pkl``, FLAME 2023 pickle or npz; FLAME's licence governs what comes of it.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is not a FLAME model, or is hostile.
    """
    vertices, faces = read_flame(path)
    return make_template(vertices, faces, name=f"flame-{Path(path).stem}")


def make_template(
    vertices: Array,
    faces: NDArray[np.integer],
    *,
    name: str,
    normals: Array | None = None,
    hair_share: float = HAIR_SHARE,
    mirrored: bool = False,
    snap: Snap | None = None,
) -> Template:
    """Spread the anchors over a mesh and its hair shell.

    Args:
        vertices: [V, 3] m, canonical head frame.
        faces: [F, 3], counter-clockwise seen from outside.
        name: What the template is called.
        normals: [V, 3] unit outward; None computes them from the faces.
        hair_share: Share of the anchors above the scalp, 0..0.5.
        mirrored: The mesh is the x >= 0 half of a symmetric head; anchor i + N/2 becomes anchor i's mirror image.
        snap: Moves points onto the exact surface and returns them with their normals; None leaves them on the mesh.

    Raises:
        InvalidInputError: The mesh is empty, not finite or refers to vertices that it does not have.
    """
    vertices, faces = _checked(vertices, faces)
    normals = vertex_normals(vertices, faces) if normals is None else normals
    count = ANCHORS // 2 if mirrored else ANCHORS
    center = vertices[faces].mean(1)
    shell = _hair_faces(vertices, faces)
    hairy = round(count * hair_share / PATCH_SIZE) * PATCH_SIZE if len(shell) else 0
    skin = _spread(vertices, faces, normals, density_at(center), count - hairy, mirrored)
    if snap is not None:
        skin = Samples(*snap(skin.points))
    region = regions_of(skin.points)
    order = patch_order(skin, PATCH_SIZE)
    skin, region = skin[order], region[order]
    if hairy:
        lift = _lift(vertices)[:, None] * normals
        hair = _spread(vertices + lift, shell, normals, np.ones(len(shell)), hairy, mirrored)
        hair = hair[patch_order(hair, PATCH_SIZE)]
        skin = Samples(np.concatenate([hair.points, skin.points]), np.concatenate([hair.normals, skin.normals]))
        region = np.concatenate([np.full(hairy, Region.HAIR, np.uint8), region])
    return _finish(skin, region, name, mirrored)


def _checked(vertices: Array, faces: NDArray[np.integer]) -> tuple[Array, Index]:
    vertices, triangles = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    if (
        vertices.ndim != 2
        or vertices.shape[1] != 3
        or triangles.ndim != 2
        or triangles.shape[1] != 3
        or not len(triangles)
    ):
        raise InvalidInputError(
            f"A template mesh needs vertices [V,3] and faces [F,3]; got {vertices.shape} and {triangles.shape}."
        )
    if triangles.min() < 0 or triangles.max() >= len(vertices) or not np.isfinite(vertices).all():
        raise InvalidInputError(
            f"Template faces refer to vertices {triangles.min()}..{triangles.max()} of {len(vertices)}, "
            "or a vertex is not finite; repair the mesh first."
        )
    return vertices, triangles


def _spread(vertices: Array, faces: Index, normals: Array, density: Array, count: int, half: bool) -> Samples:
    """``count`` evenly spaced samples; of the x >= 0 side only when ``half``."""
    if not half:
        return thin(sample_surface(vertices, faces, normals, density, 4 * count), count)
    samples = sample_surface(vertices, faces, normals, density, 5 * count)
    left = np.flatnonzero(samples.points[:, 0] >= 0.0)
    even = left[np.arange(4 * count) * len(left) // (4 * count)]
    return thin(samples[even], count)


def _lift(points: Array) -> Array:
    """Height of the hair shell above scalp points [M, 3], [M] m: tapers toward the hairline."""
    t = np.clip(above_hairline(points) / 0.025, 0.0, 1.0)
    return np.asarray(HAIR_LIFT * (0.35 + 0.65 * t * t * (3.0 - 2.0 * t)))


def _hair_faces(vertices: Array, faces: Index) -> Index:
    return np.asarray(faces[regions_of(vertices[faces].mean(1)) == Region.SCALP])


def _finish(samples: Samples, region: NDArray[np.uint8], name: str, mirrored: bool) -> Template:
    """Mirror the half if there is only one, and look up every neighbour."""
    points, normals = samples.points, samples.normals
    if mirrored:
        flip = np.array([-1.0, 1.0, 1.0])
        points, normals = np.concatenate([points, points * flip]), np.concatenate([normals, normals * flip])
        region = np.concatenate([region, region])
    points = np.round(points, 6)
    tree = cKDTree(points)
    spacing = tree.query(points, k=7)[0][:, 1:].mean(1)
    return Template(
        anchors=torch.from_numpy(points).float(),
        normals=torch.from_numpy(normals).float(),
        spacing=torch.from_numpy(spacing).float(),
        neighbors=torch.from_numpy(_neighbors(points, normals)),
        mirror=torch.from_numpy(_mirror(tree, points, mirrored)),
        regions=torch.from_numpy(region),
        name=name,
        sha256=hashlib.sha256(np.round(points * 1e6).astype("<i4").tobytes()).hexdigest(),
    )


def _neighbors(points: Array, normals: Array) -> Index:
    six = side_aware(Samples(points, normals))
    found = cKDTree(six).query(six, k=9)[1]
    me = np.arange(len(six))[:, None]
    found = np.where(found == me, found[:, :1], found)  # self comes first but for coincident anchors
    return np.ascontiguousarray(found[:, 1:])


def _mirror(tree: cKDTree, points: Array, exact: bool) -> Index:
    n = len(points)
    if exact:
        return np.asarray((np.arange(n) + n // 2) % n)
    return np.asarray(tree.query(points * [-1.0, 1.0, 1.0])[1], np.int64)
