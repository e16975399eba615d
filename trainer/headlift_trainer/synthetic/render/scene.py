"""Parts of a head joined into a scene: flat arrays, the light transfer of the shape, shadow maps.

Legend: N vertices, T triangles, M materials (one per part), P texels of the atlas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from headlift_trainer.synthetic.arrays import Classes, Floats, Ints, Texels
from headlift_trainer.synthetic.render.compiled import ALPHA_NONE, KIND_PLAIN
from headlift_trainer.synthetic.render.lighting import sh_basis, sphere_directions
from headlift_trainer.synthetic.render.rasterizing import accumulate_transfer, rasterize_triangles

SHADOW_SIDE = 512
_TRANSFER_DIRECTIONS = 64
_TRANSFER_SIDE = 160
_TRANSFER_BIAS = 0.012  # m; what is closer does not hide: thin cards and brows must not blacken the skin below
_PLAIN_SURFACE = (1.0, 0.0, 1.0)
_LOWEST = -0.3  # m; light maps are sized by what lies above


@dataclass(frozen=True)
class Part:
    """A mesh of one material."""

    name: str
    vertices: Floats  # [N, 3] m
    triangles: Ints  # [T, 3]
    uvs: Floats  # [T, 3, 2]
    classes: Classes  # [N]
    kind: int = KIND_PLAIN
    alpha: int = ALPHA_NONE
    normals: Floats | None = None  # [N, 3]; taken from the triangles if None
    surface: Floats | None = None  # [N, 3] strength of texture and grain, gloss; (1, 0, 1) if None
    fade: Floats | None = None  # [N] opacity where alpha is not ALPHA_NONE, may lie outside 0..1; 1 if None
    casts_shadow: bool = True

    def compact(self) -> Part:
        """The part without vertices that no triangle uses."""
        used, index = np.unique(self.triangles, return_inverse=True)
        return replace(
            self,
            vertices=self.vertices[used],
            triangles=index.reshape(-1, 3).astype(np.int32),
            classes=self.classes[used],
            normals=None if self.normals is None else self.normals[used],
            surface=None if self.surface is None else self.surface[used],
            fade=None if self.fade is None else self.fade[used],
        )


def vertex_normals(vertices: Floats, triangles: Ints) -> Floats:
    """Area-weighted unit normals [N, 3]; zero where no triangle is."""
    corners = vertices[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axes = [np.bincount(triangles.ravel(), np.repeat(faces[:, k], 3), len(vertices)) for k in range(3)]
    summed = np.stack(axes, axis=1)
    return np.asarray(summed / (np.linalg.norm(summed, axis=1, keepdims=True) + 1e-12), np.float32)


class Scene:
    """Parts joined into flat arrays; `bake` adds the light transfer that belongs to their shape."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        counts = [len(part.vertices) for part in self.parts]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self.positions: Floats = _joined([part.vertices for part in self.parts])  # [N, 3]
        self.normals: Floats = _joined(
            [
                vertex_normals(part.vertices, part.triangles) if part.normals is None else part.normals
                for part in self.parts
            ]
        )
        self.triangles: Ints = np.concatenate(
            [part.triangles + start for part, start in zip(self.parts, self._starts[:-1], strict=True)]
        ).astype(np.int32)
        self.uvs: Floats = _joined([part.uvs for part in self.parts])  # [T, 3, 2]
        sizes = [len(part.triangles) for part in self.parts]
        self.material: Ints = np.repeat(np.arange(len(counts)), sizes).astype(np.int32)  # [T]
        self.classes: Classes = np.concatenate([part.classes for part in self.parts]).astype(np.uint8)  # [N]
        self.surface: Floats = _joined(
            [np.tile(_PLAIN_SURFACE, (len(p.vertices), 1)) if p.surface is None else p.surface for p in self.parts]
        )
        self.fade: Floats = _joined([np.ones(len(p.vertices)) if p.fade is None else p.fade for p in self.parts])
        self.kinds: Ints = np.array([part.kind for part in self.parts], np.int32)  # [M]
        self.alpha: Ints = np.array([part.alpha for part in self.parts], np.int32)  # [M]
        self.transfer: Floats = np.zeros((len(self.positions), 10), np.float32)  # [N, 10], zero until baked
        caster = np.array([part.casts_shadow for part in self.parts])[self.material]
        self._casters = (self.triangles[caster], self.uvs[caster], self.material[caster])
        reach = self.positions[self.positions[:, 1] > _LOWEST]
        self._center = (reach.min(0) + reach.max(0)) / 2
        self._radius = float(np.linalg.norm(reach - self._center, axis=1).max()) * 1.01

    def slice_of(self, name: str) -> slice:
        """Where a part's vertices lie in the scene's arrays."""
        index = [part.name for part in self.parts].index(name)
        return slice(int(self._starts[index]), int(self._starts[index + 1]))

    def bake(self, textures: Ints, texels: Texels) -> None:
        """Compute the light transfer of every vertex: once per shape, for any light."""
        self.transfer[:] = 0.0
        directions = sphere_directions(_TRANSFER_DIRECTIONS)
        share = 4.0 / _TRANSFER_DIRECTIONS
        for direction, basis in zip(directions, sh_basis(directions), strict=True):
            screen, nearness, _ = self._orthographic(direction, _TRANSFER_SIDE, textures, texels)
            accumulate_transfer(screen, self.normals, direction, basis, nearness, _TRANSFER_BIAS, share, self.transfer)

    def shadow_map(self, direction: Floats, textures: Ints, texels: Texels) -> tuple[Floats, Floats]:
        """Nearness [SHADOW_SIDE, SHADOW_SIDE] seen from a light, and the frame [13] to look it up with."""
        _, nearness, axes = self._orthographic(direction, SHADOW_SIDE, textures, texels)
        return nearness, np.concatenate([self._center, axes.ravel(), [self._radius]]).astype(np.float32)

    def _orthographic(
        self, direction: Floats, side: int, textures: Ints, texels: Texels
    ) -> tuple[Floats, Floats, Floats]:
        """An orthographic view from a direction: screen [N, 3], nearness [side, side], axes [3, 3]."""
        up = np.array([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0])
        right = np.cross(up, direction)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(direction, right), direction]).astype(np.float32)
        local = (self.positions - self._center) @ axes.T
        flat = (local[:, :2] / self._radius * 0.5 + 0.5) * side
        screen = np.ascontiguousarray(np.concatenate([flat, local[:, 2:]], 1), np.float32)
        nearness = np.full((side, side), -1e30, np.float32)
        ids, barycentric = np.full((side, side), -1, np.int32), np.empty((side, side, 2), np.float32)
        triangles, uvs, material = self._casters
        rasterize_triangles(
            screen, False, triangles, uvs, self.fade, material, self.alpha, textures, texels, nearness, ids, barycentric
        )
        return screen, nearness, axes


def _joined(arrays: Sequence[ArrayLike]) -> Floats:
    return np.concatenate([np.asarray(array, np.float32) for array in arrays])
