"""Head, shoulders and clothes as what hair and collars slide over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Numbers
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.synthetic.render.scene import Part, vertex_normals

SKULL_CENTER = np.array([0.0, 0.045, -0.035], np.float32)  # m
_BUST = -0.38  # m, hair slides over what lies above
_CLOTH = 0.014  # m, how far clothes stand off the shoulders


class Obstacle:
    """Head and shoulders that hair lies on."""

    def __init__(self, body: Body, *, clothed: bool = True, worn: Sequence[Part] = ()) -> None:
        """`clothed` leaves room for clothes on the shoulders; `worn` are clothes that hair lies on."""
        used = np.unique(body.topology.triangles)
        used = used[(body.vertices[used, 1] > _BUST) & (np.abs(body.vertices[used, 0]) < 0.3)]
        used = used[~(body.topology.mouth_inside | body.topology.eye_socket)[used]]
        vertices, normals = [body.vertices[used]], [body.normals[used]]
        clearance = [smoothstep(-0.085, -0.12, vertices[0][:, 1]) * (_CLOTH if clothed else 0.0)]
        for part in worn:
            facing = vertex_normals(part.vertices, part.triangles) if part.normals is None else part.normals
            outside = (facing * (part.vertices - SKULL_CENTER) * np.array([1, 0, 1])).sum(1) > 0
            outside &= (part.vertices[:, 1] > _BUST) & (np.abs(part.vertices[:, 0]) < 0.3)
            if part.fade is not None:
                outside &= part.fade > 0.5
            vertices.append(part.vertices[outside])
            normals.append(facing[outside])
            clearance.append(np.full(int(outside.sum()), 0.003, np.float32))
        self._vertices, self._normals = np.concatenate(vertices), np.concatenate(normals)
        self._tree = cKDTree(self._vertices)
        self._clothed = np.concatenate(clearance)

    def push_out(self, points: Numbers, offset: Numbers) -> tuple[Floats, Floats, Floats]:
        """Points [G, 3] moved to at least `offset` [G] m above the skin; the skin's normals; how far they moved [G]."""
        near = self._tree.query(points, k=3)[1]
        normals = _unit(self._normals[near].mean(1))
        height = np.einsum("gkd,gkd->gk", points[:, None] - self._vertices[near], self._normals[near]).mean(1)
        moved = np.clip(offset + self._clothed[near[:, 0]] - height, 0.0, 0.05)
        return np.asarray(points + normals * moved[:, None], np.float32), normals, np.asarray(moved, np.float32)


def _unit(vectors: Numbers) -> Floats:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9), np.float32)
