"""Implicit surfaces: a few primitives, smooth blends, and a mesh of where a field is zero.

A field maps M points to M values, negative inside, in metres and near the true distance close to the surface.
Legend: M points, V vertices, F triangles. Everything is float64 numpy and deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Field = Callable[[Array], Array]  # [M, 3] m -> [M] m
Vec = tuple[float, float, float]

_CHUNK = 8192  # points evaluated together: keeps a field's temporaries inside the L2 cache
_CORNERS = np.array(list(product((0, 1), repeat=3)))
_EDGES = [(a, b) for a, b in product(range(8), repeat=2) if b < a and np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]
_TETRAHEDRON = np.array([(1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0)])


def ellipsoid(x: Array, y: Array, z: Array, center: Vec, radii: Vec) -> Array:
    """First-order distance to an axis-aligned ellipsoid, m."""
    u, v, w = (x - center[0]) / radii[0], (y - center[1]) / radii[1], (z - center[2]) / radii[2]
    k0 = np.sqrt(u * u + v * v + w * w)
    k1 = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2)
    return np.asarray(k0 * (k0 - 1.0) / (k1 + 1e-9))


def cone(x: Array, y: Array, z: Array, start: Vec, end: Vec, radii: tuple[float, float]) -> Array:
    """Distance to a capsule whose radius goes linearly from ``radii[0]`` at start to ``radii[1]`` at end, m."""
    axis = np.subtract(end, start)
    px, py, pz = x - start[0], y - start[1], z - start[2]
    t = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / float(axis @ axis), 0.0, 1.0)
    away = np.sqrt((px - t * axis[0]) ** 2 + (py - t * axis[1]) ** 2 + (pz - t * axis[2]) ** 2)
    return np.asarray(away - (radii[0] + (radii[1] - radii[0]) * t))


def bump(x: Array, y: Array, z: Array, center: Vec, size: Vec) -> Array:
    """A Gaussian weight, 1 at its centre: the shape of a bump."""
    u, v, w = (x - center[0]) / size[0], (y - center[1]) / size[1], (z - center[2]) / size[2]
    return np.asarray(np.exp(-0.5 * (u * u + v * v + w * w)))


def union(a: Array, b: Array, k: float) -> Array:
    """Smooth union: a fillet of about k metres, which adds k/4 where both are equal."""
    h = np.maximum(k - np.abs(a - b), 0.0) / k
    return np.asarray(np.minimum(a, b) - h * h * (0.25 * k))


def intersection(a: Array, b: Array, k: float) -> Array:
    """Smooth intersection; ``intersection(a, -b, k)`` carves b out of a."""
    return -union(-a, -b, k)


def evaluate(field: Field, points: Array) -> Array:
    """The field at [M, 3] points, in chunks."""
    return np.concatenate([field(points[i : i + _CHUNK]) for i in range(0, len(points), _CHUNK)])


def probe(field: Field, points: Array, step: float = 5e-5) -> tuple[Array, Array]:
    """Value [M] and gradient [M, 3] at [M, 3] points, both from four samples at the corners of a tetrahedron."""
    value, slope = np.zeros(len(points)), np.zeros((len(points), 3))
    for corner in _TETRAHEDRON:
        sample = evaluate(field, points + step * corner)
        value += 0.25 * sample
        slope += (0.25 / step) * sample[:, None] * corner
    return value, slope


def project(field: Field, points: Array, steps: int = 2, reach: float = 1e-3) -> tuple[Array, Array]:
    """Move [M, 3] points onto the surface by Newton steps, each at most ``reach`` metres.

    Returns:
        The moved points [M, 3] and the unit outward normals [M, 3] found at the last step.
    """
    value, slope = probe(field, points)
    for _ in range(steps):
        move = (-value / np.maximum((slope**2).sum(1), 0.05))[:, None] * slope
        length = np.linalg.norm(move, axis=1, keepdims=True)
        points = points + move * np.minimum(1.0, reach / np.maximum(length, 1e-12))
        value, slope = probe(field, points)
    return points, np.asarray(slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-12))


def mesh(field: Field, low: Vec, high: Vec, cell: float, coarse: int = 4) -> tuple[Array, NDArray[np.int64]]:
    """Surface nets of the zero set inside a box, evaluated only near the surface.

    Args:
        field: The implicit surface.
        low: Lower corner of the box, m.
        high: Upper corner, m; the surface is open where the box cuts it.
        cell: Side of a grid cell, m.
        coarse: Cells a side of the blocks that are first tested for the surface.

    Returns:
        Vertices [V, 3] m and triangles [F, 3] that wind counter-clockwise seen from outside.
    """
    shape = np.ceil((np.subtract(high, low)) / (cell * coarse)).astype(int)
    blocks = np.indices(tuple(shape.tolist())).reshape(3, -1).T
    block = cell * coarse
    near = np.abs(evaluate(field, np.add(low, (blocks + 0.5) * block))) < 1.6 * block
    inside = np.indices((coarse,) * 3).reshape(3, -1).T
    cells = (blocks[near][:, None] * coarse + inside).reshape(-1, 3)
    grid = shape * coarse + 1
    stride = np.array([grid[1] * grid[2], grid[2], 1])
    values = np.full(int(grid.prod()), np.nan)  # nan where nobody asks
    wanted = np.zeros(len(values), bool)
    wanted[((cells[:, None] + _CORNERS) * stride).sum(-1)] = True
    corners = np.flatnonzero(wanted)
    where = np.stack(np.unravel_index(corners, tuple(grid)), axis=1)
    values[corners] = evaluate(field, np.add(low, where * cell))
    return _nets(values, cells, stride, np.asarray(low), cell)


def _nets(
    values: Array, cells: NDArray[np.int64], stride: NDArray[np.int64], low: Array, cell: float
) -> tuple[Array, NDArray[np.int64]]:
    """Vertices at the mean of each cell's edge crossings, a quad around each crossed grid edge."""
    key = (cells * stride).sum(-1)
    f = values[key[:, None] + (_CORNERS * stride).sum(-1)]
    crossed = (f.min(1) < 0) & (f.max(1) >= 0)
    cells, key, f = cells[crossed], key[crossed], f[crossed]
    total, count = np.zeros((len(f), 3)), np.zeros(len(f))
    for a, b in _EDGES:
        cut = (f[:, a] < 0) != (f[:, b] < 0)
        t = np.divide(f[:, a], f[:, a] - f[:, b], out=np.zeros(len(f)), where=cut)[:, None]
        total += cut[:, None] * (_CORNERS[a] + t * (_CORNERS[b] - _CORNERS[a]))
        count += cut
    vertices = low + (cells + total / count[:, None]) * cell
    of_cell = np.full(len(values), -1)
    of_cell[key] = np.arange(len(key))
    quads = []
    for axis in range(3):
        u, v = stride[(axis + 1) % 3], stride[(axis + 2) % 3]
        here, ahead = values[key], values[key + stride[axis]]
        crossing = (here < 0) != (ahead < 0)
        ring = np.stack([of_cell[key], of_cell[key - u], of_cell[key - u - v], of_cell[key - v]], axis=1)[crossing]
        flip = (here >= 0)[crossing]
        ring[flip] = ring[flip][:, ::-1]
        quads.append(ring[(ring >= 0).all(1)])
    quad = np.concatenate(quads)
    return vertices, np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
