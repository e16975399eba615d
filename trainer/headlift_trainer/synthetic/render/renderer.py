"""The generator's renderer: a dressed scene, a light, a camera -> pictures with all that is true of every pixel.

Legend: N vertices, M materials (one per part), P texels of the atlas, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Classes, Floats, Ints, Texels
from headlift_trainer.synthetic.render.lighting import Light
from headlift_trainer.synthetic.render.rasterizing import rasterize_triangles, resolve_samples
from headlift_trainer.synthetic.render.scene import SHADOW_SIDE, Scene
from headlift_trainer.synthetic.render.shading import Lighting, Materials, Mesh, Samples, shade_samples
from headlift_trainer.synthetic.render.views import View

SAMPLES_PER_AXIS = 2
_SHADOW_TAPS = 12


@dataclass(frozen=True)
class Material:
    """How a part looks in one appearance."""

    texture: str | None = None
    roughness: float = 0.5
    specular: float = 0.0
    bump: float = 0.0
    grain_frequency: float = 400.0  # 1/m


@dataclass(frozen=True)
class RenderedImage:
    """One view of a scene."""

    rgba: NDArray[np.uint8]  # [S, S, 4] sRGB multiplied by alpha, alpha
    depth: Floats  # [S, S] m along the optical axis, nearest surface; 0 where empty
    classes: Classes  # [S, S] of the 19
    albedo: NDArray[np.uint8]  # [S, S, 3] sRGB multiplied by alpha: colours before any light; 255 stands for 1 and more
    normals: NDArray[np.int8]  # [S, S, 3] canonical frame, unit times 127, as they were lit; 0 where empty

    @classmethod
    def empty(cls, size: int) -> RenderedImage:
        """A picture of nothing."""
        square = (size, size)
        return cls(
            np.zeros((*square, 4), np.uint8), np.zeros(square, np.float32), np.zeros(square, np.uint8),
            np.zeros((*square, 3), np.uint8), np.zeros((*square, 3), np.int8),
        )  # fmt: skip


@dataclass(frozen=True)
class Renderer:
    """Draws one baked, dressed and lit scene from any camera; make it with `Renderer.of`."""

    scene: Scene
    colors: Floats  # [N, 3] linear albedo; a texture multiplies it
    optics: Floats  # [M, 4] roughness, specular, bump, grain frequency
    textures: Ints  # [M, 3] offset, width, height in the atlas
    texels: Texels  # [P, 4]
    light: Light
    shadow: Floats
    shadow_frame: Floats  # [14]

    @classmethod
    def of(
        cls, scene: Scene, colors: Floats, materials: Sequence[Material], textures: Ints, texels: Texels, light: Light
    ) -> Renderer:
        """Prepare a scene with colours [N, 3], one material per part and a light; draws the shadow map."""
        optics = np.array([[m.roughness, m.specular, m.bump, m.grain_frequency] for m in materials], np.float32)
        shadow, frame = scene.shadow_map(light.key_direction[0], textures, texels)
        frame = np.append(frame, np.float32(light.softness * SHADOW_SIDE)).astype(np.float32)
        return cls(scene, np.ascontiguousarray(colors, np.float32), optics, textures, texels, light, shadow, frame)

    def draw(self, view: View, size: int) -> RenderedImage:
        """One picture of `size` pixels a side."""
        side = size * SAMPLES_PER_AXIS
        scene = self.scene
        nearness, ids = np.zeros((side, side), np.float32), np.full((side, side), -1, np.int32)
        barycentric = np.zeros((side, side, 2), np.float32)
        rasterize_triangles(
            _projected(scene.positions, view), True, scene.triangles, scene.uvs, scene.fade, scene.material,
            scene.alpha, self.textures, self.texels, nearness, ids, barycentric,
        )  # fmt: skip
        shaded = np.empty((side, side, 9), np.float32)
        shade_samples(
            Samples(ids, barycentric),
            Mesh(
                scene.triangles,
                scene.uvs,
                scene.material,
                scene.positions,
                scene.normals,
                self.colors,
                scene.surface,
                scene.transfer,
            ),
            Materials(scene.kinds, self.optics, self.textures, self.texels),
            Lighting(
                self.light.sh,
                self.light.key_direction,
                self.light.key_color,
                self.shadow,
                self.shadow_frame,
                _disc(_SHADOW_TAPS),
            ),
            view.center,
            shaded,
        )
        picture = RenderedImage.empty(size)
        resolve_samples(
            ids, barycentric, nearness, shaded, scene.triangles, scene.classes, SAMPLES_PER_AXIS,
            picture.rgba, picture.depth, picture.classes, picture.albedo, picture.normals,
        )  # fmt: skip
        return picture


def _projected(positions: Floats, view: View) -> Floats:
    """x, y in samples and 1/z of points [N, 3] m; 0 for points behind the camera."""
    local = positions @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    near = np.where(local[:, 2] > 1e-3, 1.0 / np.maximum(local[:, 2], 1e-3), 0.0)
    flat = local @ view.K.T
    x, y = flat[:, 0] * near * SAMPLES_PER_AXIS, flat[:, 1] * near * SAMPLES_PER_AXIS
    return np.stack([x, y, near], 1).astype(np.float32)


def _disc(taps: int) -> Floats:
    """Points evenly spread over the unit disc, [taps, 2]."""
    index = np.arange(taps) + 0.5
    radius, angle = np.sqrt(index / taps), 2.399963 * index
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
