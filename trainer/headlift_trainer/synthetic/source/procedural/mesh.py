"""The procedural base mesh: the built-in implicit head on a torso, triangulated finely where faces are looked at.

Legend: N vertices, T triangles.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from headlift.model.template import Region
from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.classes import EAR_L, EAR_R, FACE, LIP_LOW, LIP_UP, MOUTH, NECK, NOSE
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.template.anatomy import EAR, EYE, MOUTH_HALF_WIDTH, MOUTH_Y, above_hairline, regions_of
from headlift_trainer.template.builtin_head import head_field
from headlift_trainer.template.implicit import Array, cone, ellipsoid, mesh, project, union

_CELL = 0.0036  # m, side of the coarse grid
_LOW, _HIGH = (-0.31, -0.42, -0.17), (0.31, 0.145, 0.105)
_COARSE = (0.010, 0.007)  # m, cells that torso and scalp are thinned out to
_TILE = 0.05  # m of skin to a tile of its texture


class ProceduralTopology(Topology):
    """Regions of the built-in head's mesh, with the names that MakeHuman's have."""

    def __init__(self) -> None:
        vertices, triangles = _triangulated()
        self.triangles: Ints = triangles
        self.mean: Floats = vertices.astype(np.float32)
        x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
        above, depth = mouth_coordinates(vertices)
        share = np.clip(1.0 - (x / MOUTH_HALF_WIDTH) ** 2, 0.0, 1.0) ** 0.7
        red = (z > depth - 0.006) & (x < MOUTH_HALF_WIDTH * 0.98)
        self.mouth_inside = between_lips(vertices)
        self.upper_lip = red & (above >= 0.0) & (above < 0.0010 + 0.0072 * share) & ~self.mouth_inside
        self.lower_lip = red & (above < 0.0) & (above > -0.0012 - 0.0086 * share) & ~self.mouth_inside
        regions = regions_of(vertices)
        self.ear = regions == Region.EAR
        self.nose = (x < np.interp(y, (-0.028, -0.010, 0.030), (0.018, 0.0175, 0.008))) & (z > 0.060)
        self.nose &= (y > -0.0275) & (y < 0.032)
        ball = np.linalg.norm(np.stack([x, y, z], 1) - np.array(EYE), axis=1)
        self.eye_socket = ball < 0.0124
        # lips are parted for good: the groove between them is what opens
        pushed = self.mean.copy()
        pushed[self.mouth_inside, 2] = (depth - 0.0015)[self.mouth_inside]
        self.mean = pushed
        hairline = np.clip(above_hairline(vertices), -0.05, 0.05)
        hairline[self.ear] = np.minimum(hairline[self.ear], -0.006)
        hairline[regions == Region.SHOULDERS] = -0.05
        self.hairline = hairline.astype(np.float32)
        self.classes = self._labels(regions)
        self.corner_uvs = _cylinder_uvs(self.mean, triangles)

    def _labels(self, regions: NDArray[np.uint8]) -> NDArray[np.uint8]:
        classes = np.full(len(self.mean), FACE, np.uint8)
        classes[np.isin(regions, (Region.NECK, Region.SHOULDERS))] = NECK
        classes[self.nose] = NOSE
        classes[self.upper_lip], classes[self.lower_lip] = LIP_UP, LIP_LOW
        classes[self.ear] = np.where(self.mean[self.ear, 0] > 0, EAR_L, EAR_R)
        classes[self.mouth_inside] = MOUTH
        return classes


@cache
def topology() -> ProceduralTopology:
    """The regions, computed once a process (about two seconds)."""
    return ProceduralTopology()


def mouth_coordinates(points: Floats | Array) -> tuple[Array, Array]:
    """Height above the line between the lips, and the depth z of that line, of points [N, 3]; both [N] m."""
    share = np.minimum(np.abs(points[:, 0]) / MOUTH_HALF_WIDTH, 1.4)
    line = MOUTH_Y + 0.0014 * share**2 - 0.0010 * np.exp(-0.5 * (points[:, 0] / 0.005) ** 2)
    return np.asarray(points[:, 1] - line, np.float64), np.asarray(0.0650 - 0.0140 * share**2, np.float64)


def between_lips(points: Floats | Array) -> NDArray[np.bool_]:
    """[N] whether a point of the mean head lies in the groove between the lips."""
    above, _ = mouth_coordinates(points)
    x = np.abs(points[:, 0])
    width = 0.0009 + 0.0008 * np.exp(-0.5 * (x / 0.003) ** 2)
    return np.asarray((np.abs(above) < width) & (x < MOUTH_HALF_WIDTH * 0.95) & (points[:, 2] > 0.03))


def clustered(vertices: Array, triangles: Ints, size: Array) -> tuple[Array, Ints]:
    """Merge vertices that share a cell of a grid of this size [N] m; where it is 0 nothing is merged."""
    cell = np.floor(vertices / np.where(size > 0, size, 1.0)[:, None]).astype(np.int64)
    key = np.concatenate([cell, (size * 1e6).astype(np.int64)[:, None]], 1)
    key[size == 0] = np.stack([np.flatnonzero(size == 0), *[np.full((size == 0).sum(), -1)] * 3], 1)
    _, group = np.unique(key, axis=0, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group)
    merged = np.stack([np.bincount(group, vertices[:, k]) / count for k in range(3)], 1)
    kept = group[triangles]
    whole = (kept[:, 0] != kept[:, 1]) & (kept[:, 1] != kept[:, 2]) & (kept[:, 2] != kept[:, 0])
    kept = kept[whole]
    # triangles on the same corners cancel in pairs: two make a flat flap
    _, first, twin, times = np.unique(
        np.sort(kept, axis=1), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    single = times[twin.ravel()] % 2 == 1
    single &= first[twin.ravel()] == np.arange(len(kept))
    return merged, kept[single].astype(np.int32)


def refined(vertices: Array, triangles: Ints, chosen: NDArray[np.bool_]) -> tuple[Array, Ints]:
    """Cut chosen triangles [T] in four at the middles of their edges, and their neighbours so that no gap opens."""
    corners = [triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]
    edges = np.sort(np.concatenate(corners), axis=1).astype(np.int64)
    key = edges[:, 0] * len(vertices) + edges[:, 1]
    cut = np.unique(key[np.tile(chosen, 3)])
    if not len(cut):
        return vertices, triangles
    place = np.minimum(np.searchsorted(cut, key), len(cut) - 1)
    middle = np.where(cut[place] == key, place + len(vertices), -1).reshape(3, -1).T
    points = (vertices[cut // len(vertices)] + vertices[cut % len(vertices)]) / 2
    pieces = []
    for turn in range(3):  # turned so that every pattern is one of four
        a, b, c = np.roll(triangles, -turn, axis=1).T
        ab, bc, ca = np.roll(middle, -turn, axis=1).T
        one = (ab >= 0) & (bc < 0) & (ca < 0)
        two = (ab >= 0) & (bc >= 0) & (ca < 0)
        pieces += [np.stack(t, 1)[one] for t in ((a, ab, c), (ab, b, c))]
        pieces += [np.stack(t, 1)[two] for t in ((ab, b, bc), (a, ab, bc), (a, bc, c))]
        if turn == 0:
            full, none = (middle >= 0).all(1), (middle < 0).all(1)
            pieces += [triangles[none]]
            pieces += [np.stack(t, 1)[full] for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate([vertices, points]), np.concatenate(pieces).astype(np.int32)


def _field(points: Array) -> Array:
    """The built-in bust, continued to chest and upper arms."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    torso = ellipsoid(x, y, z, (0.0, -0.37, -0.048), (0.205, 0.225, 0.100))
    arm = cone(x, y, z, (0.185, -0.235, -0.047), (0.225, -0.45, -0.045), (0.046, 0.042))
    below = union(torso, arm, 0.03)
    return union(head_field(points), below, 0.05)


def _triangulated() -> tuple[Array, Ints]:
    vertices, faces = mesh(_field, _LOW, _HIGH, _CELL)
    regions = regions_of(vertices)
    size = np.where(vertices[:, 1] < -0.13, _COARSE[0], 0.0)
    size = np.where((above_hairline(vertices) > 0.012) & (regions == Region.SCALP), _COARSE[1], size)
    vertices, triangles = clustered(vertices, faces.astype(np.int32), size)
    vertices = _calmed(vertices, triangles, vertices[:, 1] < -0.12, 6)
    for level in range(3):
        vertices, _ = project(_field, vertices)
        middle = vertices[triangles].mean(1)
        vertices, triangles = refined(vertices, triangles, _is_fine(middle, level))
    vertices, _ = project(_field, vertices, steps=3)
    vertices = _calmed(vertices, triangles, vertices[:, 1] < -0.14, 4)
    # the folds of ears are finer than the mesh
    return _calmed(vertices, triangles, regions_of(vertices) == Region.EAR, 2), triangles


def _calmed(vertices: Array, triangles: Ints, chosen: NDArray[np.bool_], rounds: int) -> Array:
    """Move chosen vertices [N] half way to the mean of their neighbours, some rounds."""
    near = np.concatenate([triangles, np.roll(triangles, 1, 1), np.roll(triangles, 2, 1)])
    near = near[chosen[near[:, 0]]]
    count = np.bincount(near[:, 0], minlength=len(vertices)) * 2.0 + 1e-9
    for _ in range(rounds):
        total = [np.bincount(near[:, 0], vertices[near[:, 1:], k].sum(1), len(vertices)) for k in range(3)]
        vertices = np.where(chosen[:, None], 0.5 * vertices + 0.5 * np.stack(total, 1) / count[:, None], vertices)
    return vertices


def _is_fine(points: Array, level: int) -> NDArray[np.bool_]:
    """Whether triangles at these points are cut on a level: face and ears, then eyes, nose and mouth, then lips."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    mouth = (x < MOUTH_HALF_WIDTH * 1.15) & (np.abs(y - MOUTH_Y) < (0.015, 0.015, 0.0045)[level]) & (z > 0.045)
    if level == 2:
        return np.asarray(mouth)
    eye = (np.hypot((x - EYE[0]) / 1.5, y - EYE[1]) < 0.0125) & (z > 0.035)
    nose = (x < 0.020) & (y > -0.030) & (y < 0.0) & (z > 0.058)
    if level == 1:
        return np.asarray(mouth | eye)
    ear = (x > 0.060) & (np.abs(y - EAR[1]) < 0.04) & (np.abs(z - EAR[2]) < 0.03)
    brow = (np.abs(y - 0.047) < 0.010) & (z > 0.03) & (x < 0.055)
    return np.asarray(mouth | eye | nose | ear | brow)


def _cylinder_uvs(vertices: Floats, triangles: Ints) -> Floats:
    """Texture coordinates [T, 3, 2] round the head's axis, in tiles; triangles over the seam are kept whole."""
    around = np.arctan2(vertices[:, 0], vertices[:, 2] + 0.03)[triangles]
    around = np.where((around.max(1) - around.min(1) > np.pi)[:, None] & (around < 0), around + 2 * np.pi, around)
    return np.stack([around * 0.075 / _TILE, vertices[triangles][:, :, 1] / _TILE], -1).astype(np.float32)


def below_mouth(points: Floats | Array) -> Array:
    """[N] 0..1, how far the lower jaw carries a point: split sharply between the lips, softly beside them."""
    above, _ = mouth_coordinates(points)
    x, y, z = np.abs(points[:, 0]), *points[:, 1:].astype(np.float32).T
    taper = np.sqrt(np.clip(1.0 - (x / (MOUTH_HALF_WIDTH * 0.97)) ** 2, 0.0, 1.0))
    sharp, soft = (smoothstep(width, -width, above.astype(np.float32)).astype(np.float64) for width in (0.0006, 0.020))
    share = taper * sharp + (1.0 - taper) * soft
    return np.asarray(share * smoothstep(-0.135, -0.092, y) * smoothstep(-0.045, 0.005, z), np.float64)
