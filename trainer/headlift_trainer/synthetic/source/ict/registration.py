"""Laying MakeHuman's mesh onto ICT's mean head, so that ICT's shapes move MakeHuman's vertices.

With both families on one mesh, ICT's heads wear everything that MakeHuman's do: skins, hair, brows, lashes, teeth,
clothes, labels; and there is no border to join where ICT's bust ends, because the body below is MakeHuman's own.

The mesh is pulled to ICT's surface by nearest points with agreeing normals, held together by its edges (a membrane
on displacements), first stiff, then soft; lids and lips are pinned to ICT's landmarks.

Legend: N base vertices of MakeHuman, S its skin (the first 13,380), I vertices of ICT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Ints, Mask
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.synthetic.render.scene import vertex_normals
from headlift_trainer.synthetic.source.ict.model import SKIN, IctModel

Array = NDArray[np.float64]

_STIFFNESS = (3000.0, 1000.0, 300.0, 100.0, 40.0, 15.0, 6.0, 2.0, 0.7, 0.3)  # of an edge, relative to a point's pull
_PIN = 30.0  # pull of a landmark
_EAR_STIFFNESS = 40.0  # ears are moved as a whole: their folds would not find each other
_SAMPLES = 300_000
_NECK = (-0.150, -0.105)  # m, height where ICT's surface begins to be followed, and is followed fully
_BODY = -0.32  # m, below this nothing of MakeHuman's body is moved


@dataclass(frozen=True)
class Surface:
    """Points spread over ICT's skin."""

    points: Array  # [M, 3] m
    normals: Array  # [M, 3]
    triangles: Ints  # [M, 3] ICT's vertices
    weights: Array  # [M, 3] barycentric

    @classmethod
    def of(cls, model: IctModel, seed: int = 0) -> Surface:
        """Sample the mean head evenly by area, the face four times as densely."""
        rng = np.random.default_rng(seed)
        triangles = model.triangles_of(SKIN)
        vertices = model.neutral.astype(np.float64)
        corners = vertices[triangles]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        area = area * np.where(corners[:, :, 2].mean(1) > 0.0, 4.0, 1.0)
        picked = rng.choice(len(triangles), _SAMPLES, p=area / area.sum())
        weights = rng.random((_SAMPLES, 2))
        weights = np.where(weights.sum(1, keepdims=True) > 1, 1 - weights, weights)
        weights = np.concatenate([1 - weights.sum(1, keepdims=True), weights], 1)
        normals = vertex_normals(model.neutral, triangles).astype(np.float64)
        normals = np.einsum("mk,mkd->md", weights, normals[triangles[picked]])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        points = np.einsum("mk,mkd->md", weights, corners[picked])
        return cls(points, normals, triangles[picked], weights)


@dataclass(frozen=True)
class Registration:
    """Where the skin of MakeHuman's mesh lies on ICT's mean head."""

    vertices: Floats  # [S, 3] m
    triangles: Ints  # [S, 3] ICT's vertices
    weights: Floats  # [S, 3] barycentric
    known: Mask  # [S] whether ICT has a surface there


def skin_count(topology: Topology) -> int:
    """S: base vertices are ordered, the skin first."""
    return int(topology.triangles.max()) + 1


def laplacian(triangles: Ints, count: int, stiff: Floats | None = None) -> csr_matrix:
    """Graph Laplacian [count, count] of a mesh; an edge weighs the mean of its ends' stiffness (1 if None)."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    weight = np.ones(len(pairs)) if stiff is None else (stiff[pairs[:, 0]] + stiff[pairs[:, 1]]) / 2
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    matrix = coo_matrix((np.tile(weight, 2), (rows, columns)), (count, count)).tocsr()
    return (diags(np.asarray(matrix.sum(1)).ravel()) - matrix).tocsr()


def register(topology: Topology, model: IctModel) -> Registration:
    """Lay the skin of MakeHuman's mean head onto ICT's mean head."""
    count = skin_count(topology)
    surface = Surface.of(model)
    start = topology.mean[:count].astype(np.float64)
    pocket = (topology.mouth_inside | topology.eye_socket)[:count]
    pull = np.where(pocket, 0.0, smoothstep(*_NECK, topology.mean[:count, 1]).astype(np.float64))
    pull[start[:, 1] < _NECK[0]] = 0.0
    anchored = (start[:, 1] < _BODY).astype(np.float64) * 1e3
    pins, goals = _pins(topology, model)
    stiff = np.where(topology.ear[:count], _EAR_STIFFNESS, 1.0).astype(np.float32)
    edges = laplacian(topology.triangles, count, stiff)
    tree = cKDTree(_oriented(surface.points, surface.normals))
    current = start.copy()
    for stiffness in _STIFFNESS:
        normals = vertex_normals(current.astype(np.float32), topology.triangles)[:count].astype(np.float64)
        distance, nearest = tree.query(_oriented(current, normals))
        weight = pull * np.exp(-((distance / 0.012) ** 2)) if stiffness < 300 else pull.copy()
        wanted = surface.points[nearest] - start
        wanted[pins], weight[pins] = goals - start[pins], _PIN * max(1.0, stiffness / 30.0)
        system = (diags(weight + anchored) + stiffness * edges + diags(np.full(count, 1e-6))).tocsc()
        solved = splu(system).solve(weight[:, None] * wanted)
        current = start + solved
    normals = vertex_normals(current.astype(np.float32), topology.triangles)[:count].astype(np.float64)
    distance, nearest = tree.query(_oriented(current, normals))
    known = (pull > 0.5) & (distance < 0.010)
    known[pins] = True
    return Registration(
        current.astype(np.float32),
        surface.triangles[nearest],
        surface.weights[nearest].astype(np.float32),
        known,
    )


def _oriented(points: Array, normals: Array) -> Array:
    """Points with their normals worth 2 cm of distance: the far side of a lip is never nearest."""
    return np.concatenate([points, 0.02 * normals], 1)


def _pins(topology: Topology, model: IctModel) -> tuple[Ints, Array]:
    """Vertices of the skin that lie on landmarks of lids, lips and nose, and where ICT has them."""
    mean, goals = topology.mean, model.neutral[model.landmarks].astype(np.float64)
    chosen: dict[int, int] = {}
    count = skin_count(topology)
    sheet = topology.triangles[~(topology.mouth_inside | topology.eye_socket)[topology.triangles].all(1)]
    margin = np.zeros(count, bool)
    touching = (topology.eye_socket)[topology.triangles].any(1)
    margin[np.unique(topology.triangles[touching])] = True
    margin &= ~topology.eye_socket[:count] & np.isin(np.arange(count), sheet)
    for first, side in ((36, -1.0), (42, 1.0)):
        rim = np.flatnonzero(margin & (mean[:count, 0] * side > 0))
        if len(rim):  # a mesh without sockets has no lids to pin
            chosen |= _on_loop(mean[rim], rim, goals[first : first + 6], first)
    chosen |= _on_lips(topology, goals)
    nose = np.flatnonzero(np.abs(mean[:count, 0]) < 1e-4)
    chosen[30] = int(nose[mean[nose, 2].argmax()])
    indices = list(chosen)
    return np.array([chosen[i] for i in indices], np.int32), goals[indices]


def _on_loop(points: Floats, members: NDArray[np.int64], goals: Array, first: int) -> dict[int, int]:
    """Vertices of a lid's margin for its six landmarks: the corners are its ends, the others share their x."""
    low, high = goals[:, 0].min(), goals[:, 0].max()
    share = (points[:, 0] - points[:, 0].min()) / (points[:, 0].max() - points[:, 0].min())
    line = np.interp(share, [0, 1], points[[points[:, 0].argmin(), points[:, 0].argmax()], 1])
    found: dict[int, int] = {}
    for k, goal in enumerate(goals):
        wanted = (goal[0] - low) / (high - low)
        upper = k in (1, 2)
        cost = np.abs(share - wanted)
        if 0.05 < wanted < 0.95:
            cost = cost + np.where((points[:, 1] > line) == upper, 0.0, 1.0)
        found[first + k] = int(members[cost.argmin()])
    return found


def _on_lips(topology: Topology, goals: Array) -> dict[int, int]:
    """Vertices on the outline of the lips' red for the twelve outer landmarks 48..59."""
    mean = topology.mean
    red = np.flatnonzero(topology.upper_lip | topology.lower_lip)
    upper, lower = np.flatnonzero(topology.upper_lip), np.flatnonzero(topology.lower_lip)
    stretch = np.abs(goals[48:60, 0]).max() / np.abs(mean[red, 0]).max()
    found = {48: int(red[mean[red, 0].argmin()]), 54: int(red[mean[red, 0].argmax()])}
    for k in (*range(49, 54), *range(55, 60)):
        members, sign = (upper, 1.0) if k < 54 else (lower, -1.0)
        near = members[np.abs(mean[members, 0] * stretch - goals[k, 0]) < 0.0030]
        if len(near):
            found[k] = int(near[(sign * mean[near, 1]).argmax()])
    return found
