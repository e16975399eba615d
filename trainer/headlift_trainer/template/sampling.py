"""Points spread evenly over a triangle mesh, and their grouping into small compact patches.

Everything is float64 numpy, deterministic and without a random generator: samples follow a low-discrepancy
sequence, sorts are stable, and nothing depends on the order in which threads finish.
Legend: V vertices, F triangles, M samples, N anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.template.implicit import Array

Index = NDArray[np.int64]

_R2 = (0.7548776662466927, 0.5698402909980532)  # inverse powers of the plastic number: Roberts' R2 sequence
_SIDES = 0.003  # m per unit of normal: keeps the two sides of an ear or a lip apart when neighbours are sought


@dataclass(frozen=True)
class Samples:
    """Points on a surface with their unit normals."""

    points: Array  # [M, 3] m
    normals: Array  # [M, 3]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: Index) -> Samples:
        return Samples(self.points[index], self.normals[index])


def side_aware(samples: Samples) -> Array:
    """Positions with a little of the normal, [M, 6]: what is near here is near on the surface, too."""
    return np.concatenate([samples.points, _SIDES * samples.normals], axis=1)


def vertex_normals(vertices: Array, faces: Index) -> Array:
    """Unit vertex normals [V, 3], area-weighted."""
    cross = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    total: Array = np.stack(
        [np.bincount(faces.ravel(), np.repeat(cross[:, k], 3), len(vertices)) for k in range(3)], axis=1
    )
    return _unit(total)


def sample_surface(vertices: Array, faces: Index, normals: Array, density: Array, count: int) -> Samples:
    """About evenly spread samples of a mesh.

    Args:
        vertices: [V, 3] m.
        faces: [F, 3].
        normals: [V, 3] unit.
        density: [F] samples per area, relative.
        count: How many samples.

    Returns:
        ``count`` samples in the order of their triangles.
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    share = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1) * density)
    i = np.arange(count)
    face = np.minimum(np.searchsorted(share, (i + 0.5) * (share[-1] / count)), len(faces) - 1)
    u, v = np.modf((i + 1) * _R2[0])[0], np.modf((i + 1) * _R2[1])[0]
    fold = u + v > 1.0
    u, v = np.where(fold, 1.0 - u, u)[:, None], np.where(fold, 1.0 - v, v)[:, None]
    points = a[face] + u * (b - a)[face] + v * (c - a)[face]
    corner = normals[faces[face]]
    return Samples(points, _unit((1.0 - u - v) * corner[:, 0] + u * corner[:, 1] + v * corner[:, 2]))


def thin(samples: Samples, keep: int, rounds: int = 2) -> Samples:
    """Sample elimination: ``keep`` of ``4 * keep`` samples, then moved apart.

    The median of each k-d cell of four stays; Lloyd's rounds then move every survivor to the middle of the samples
    nearest to it, and back onto the surface along the normal of the sample closest to there. Densities survive.
    """
    cells = kd_cells(samples.points, keep)
    middle = samples.points[cells].mean(1, keepdims=True)
    medoid = np.linalg.norm(samples.points[cells] - middle, axis=-1).argmin(1)
    kept = samples[cells[np.arange(keep), medoid]]
    cloud = cKDTree(side_aware(samples))
    for _ in range(rounds):
        owner = cKDTree(side_aware(kept)).query(side_aware(samples))[1]
        n = np.maximum(np.bincount(owner, minlength=keep), 1)[:, None]
        center = np.stack([np.bincount(owner, samples.points[:, k], keep) for k in range(3)], axis=1) / n
        normal: Array = np.stack([np.bincount(owner, samples.normals[:, k], keep) for k in range(3)], axis=1)
        nearest = samples[cloud.query(side_aware(Samples(center, _unit(normal))))[1]]
        off = ((center - nearest.points) * nearest.normals).sum(1, keepdims=True)
        kept = Samples(center - off * nearest.normals, nearest.normals)
    return kept


def kd_cells(points: Array, cells: int) -> Index:
    """Split points [M, 3] at medians of the widest axis into ``cells`` equal cells: [cells, M / cells] indices."""
    size = len(points) // cells
    order, counts = np.arange(len(points)), np.array([cells])
    while counts.max() > 1:
        members = counts * size
        begin = np.cumsum(members) - members
        p = points[order]
        axis = (np.maximum.reduceat(p, begin) - np.minimum.reduceat(p, begin)).argmax(1)
        key = p[np.arange(len(p)), np.repeat(axis, members)]
        order = order[np.lexsort((key, np.repeat(np.arange(len(counts)), members)))]
        counts = np.stack([counts // 2, counts - counts // 2], axis=1).ravel()
        counts = counts[counts > 0]
    return order.reshape(cells, size)


def patch_order(samples: Samples, size: int, normal_weight: float = 0.016) -> Index:
    """Order that makes rows ``size * q`` to ``size * q + size - 1`` one compact patch, and patches follow each other.

    Nodes of a k-d tree over (position, ``normal_weight`` x normal) are split along their first principal axis into
    halves of whole patches; the half that lies closer to the node before comes first. Then neighbouring patches
    trade members while that makes both more compact.

    Args:
        samples: N points, N a multiple of ``size``.
        size: Members of a patch.
        normal_weight: Metres that a unit of normal counts for.

    Returns:
        [N] indices into ``samples``.
    """
    six = np.concatenate([samples.points, normal_weight * samples.normals], axis=1)
    order, counts = np.arange(len(six)), np.array([len(six) // size])
    while counts.max() > 1:
        order = _sort_nodes(six, order, counts * size)
        counts = np.stack([counts // 2, counts - counts // 2], axis=1).ravel()
        counts = counts[counts > 0]
    order = trade(six, order.reshape(-1, size)).ravel()
    return _sort_nodes(six, order, counts * size)


def trade(six: Array, patches: Index, rounds: int = 48) -> Index:
    """Make equal patches [Q, size] more compact: pairs of near patches share their members anew, again and again.

    Of a pair's members the half that is most clearly nearer to one centre goes there, so sizes never change and the
    sum of squared distances to the centres never grows.
    """
    size = patches.shape[1]
    for step in range(rounds if len(patches) > 1 else 0):
        center = six[patches].mean(1)
        pair = _pairs(center, step)
        both = np.concatenate([patches[pair[:, 0]], patches[pair[:, 1]]], axis=1)
        x = six[both]
        gain = (x * (center[pair[:, 1]] - center[pair[:, 0]])[:, None]).sum(-1)
        ranked = np.take_along_axis(both, gain.argsort(axis=1, kind="stable"), axis=1)
        patches = patches.copy()
        patches[pair[:, 0]], patches[pair[:, 1]] = ranked[:, :size], ranked[:, size:]
    return patches


def _pairs(center: Array, step: int, reach: int = 8) -> Index:
    """Disjoint pairs [K, 2] of near patches; another ``step`` favours other pairs."""
    near = cKDTree(center).query(center, k=min(reach, len(center) - 1) + 1)[1][:, 1:]
    free, pairs = np.ones(len(center), bool), []
    for a, row in enumerate(np.roll(near, -step, axis=1).tolist()):
        if free[a]:
            for b in row:
                if free[b] and b != a:
                    free[a] = free[b] = False
                    pairs.append((a, b))
                    break
    return np.array(pairs, np.int64).reshape(-1, 2)


def _sort_nodes(six: Array, order: Index, members: Index) -> Index:
    """Sort each node's members along its principal axis, in the direction that starts near the node before."""
    begin = np.cumsum(members) - members
    x = six[order]
    mean = np.add.reduceat(x, begin, axis=0) / members[:, None]
    x = x - np.repeat(mean, members, axis=0)
    row, column = np.triu_indices(6)
    cov = np.zeros((len(members), 6, 6))
    cov[:, row, column] = cov[:, column, row] = np.add.reduceat(x[:, row] * x[:, column], begin, axis=0)
    axis = np.linalg.eigh(cov)[1][:, :, -1]
    before = np.concatenate([mean[:1], mean[:-1]])
    before[0, 1] += 1.0  # the crown comes first
    axis *= np.where(((before - mean) * axis).sum(1, keepdims=True) > 0, -1.0, 1.0)
    key = (x * np.repeat(axis, members, axis=0)).sum(1)
    return order[np.lexsort((key, np.repeat(np.arange(len(members)), members)))]


def _unit(x: Array) -> Array:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12))
