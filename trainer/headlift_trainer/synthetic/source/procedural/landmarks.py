"""iBUG's 68 landmarks on the procedural base mesh, told by the built-in head's anatomy."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.source.procedural.mesh import topology

# The person's right half (x < 0) and the midline, m; the left half is mirrored. Depth is looked up on the mesh.
_JAW = (
    (-0.072, 0.026, -0.010),
    (-0.070, 0.006, -0.006),
    (-0.067, -0.013, 0.000),
    (-0.062, -0.032, 0.004),
    (-0.054, -0.052, 0.012),
    (-0.043, -0.068, 0.026),
    (-0.030, -0.078, 0.042),
    (-0.015, -0.084, 0.054),
    (0.000, -0.087, 0.058),
)
_BROW = ((-0.0510, 0.0435), (-0.0430, 0.0480), (-0.0335, 0.0500), (-0.0240, 0.0490), (-0.0130, 0.0460))
_NOSE = ((0.0, 0.030), (0.0, 0.0165), (0.0, 0.003), (0.0, -0.012))
_BASE = ((-0.0140, -0.0215), (-0.0070, -0.0245), (0.0, -0.0262))
_EYE = (
    (-0.0462, 0.0272),
    (-0.0370, 0.0334),
    (-0.0262, 0.0338),
    (-0.0172, 0.0275),
    (-0.0258, 0.0236),
    (-0.0366, 0.0236),
)
_LIPS = ((-0.0250, -0.0440), (-0.0160, -0.0400), (-0.0066, -0.0373), (0.0, -0.0382))
_UNDER = ((-0.0160, -0.0510), (-0.0070, -0.0548), (0.0, -0.0555))
_INNER = ((-0.0220, -0.0443), (-0.0090, -0.0445), (0.0, -0.0447))


@cache
def landmark_vertices() -> NDArray[np.int64]:
    """[68] vertices of the base mesh."""
    found = topology()
    outer = np.flatnonzero(~found.mouth_inside & ~found.eye_socket)
    points = found.mean[outer]
    front = points[:, 2] > 0.02
    flat = cKDTree(points[front][:, :2])
    front_index = outer[front]
    solid = cKDTree(points)

    def at(places: list[tuple[float, float]]) -> list[int]:
        near = flat.query(places, k=6)[1]
        foremost = points[front][near][:, :, 2].argmax(1)
        return [int(front_index[row[k]]) for row, k in zip(near, foremost, strict=True)]

    def mirrored(places: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
        return [(-x, y) for x, y in places]

    jaw = [*_JAW, *[(-x, y, z) for x, y, z in _JAW[-2::-1]]]
    indices = [int(outer[k]) for k in solid.query(jaw)[1]]
    indices += at([*_BROW, *mirrored(_BROW[::-1])])
    indices += at([*_NOSE, *_BASE, *mirrored(_BASE[-2::-1])])
    left = mirrored(_EYE)
    indices += at([*_EYE, left[3], left[2], left[1], left[0], left[5], left[4]])
    indices += at([*_LIPS, *mirrored(_LIPS[-2::-1]), *mirrored(_UNDER), *_UNDER[-2::-1]])
    lower = [(x, y - 0.0030) for x, y in _INNER]
    indices += at([*_INNER, *mirrored(_INNER[-2::-1]), *mirrored(tuple(lower[1:])), lower[1]])
    return np.array(indices, np.int64)
