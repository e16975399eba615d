"""iBUG's 68 landmarks: where they lie on MakeHuman's mesh, where a camera sees them, and whether it does.

Order as in 300-W: jaw 0-16 from the person's right ear to the left, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67.

Legend: L landmarks (68), N base vertices, S picture side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.classes import BROW_L, BROW_R
from headlift_trainer.synthetic.render.compiled import TEXEL_ONE
from headlift_trainer.synthetic.render.renderer import Renderer
from headlift_trainer.synthetic.render.views import View

COUNT = 68
BROWS = slice(17, 27)
# The landmark on the other side of each.
MIRROR = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
])  # fmt: skip
# Places on MakeHuman's mean head, m: landmarks of the person's right half (x < 0) and the midline.
_PLACES = {
    0: (-0.0701, 0.0301, -0.0104), 1: (-0.0701, 0.0085, -0.0069), 2: (-0.0673, -0.0108, -0.0003),
    3: (-0.0623, -0.0292, 0.0049), 4: (-0.0550, -0.0502, 0.0123), 5: (-0.0414, -0.0692, 0.0244),
    6: (-0.0297, -0.0762, 0.0379), 7: (-0.0148, -0.0807, 0.0509), 8: (0.0, -0.0834, 0.0528),
    17: (-0.0560, 0.0405, 0.0345), 18: (-0.0478, 0.0462, 0.0440), 19: (-0.0385, 0.0483, 0.0510),
    20: (-0.0255, 0.0470, 0.0565), 21: (-0.0150, 0.0435, 0.0585),
    27: (0.0, 0.0255, 0.0586), 28: (0.0, 0.0132, 0.0639), 29: (0.0, 0.0031, 0.0708), 30: (0.0, -0.0095, 0.0779),
    31: (-0.0132, -0.0210, 0.0610), 32: (-0.0069, -0.0214, 0.0649), 33: (0.0, -0.0233, 0.0669),
    36: (-0.0441, 0.0273, 0.0419), 37: (-0.0387, 0.0307, 0.0474), 38: (-0.0275, 0.0306, 0.0490),
    39: (-0.0191, 0.0247, 0.0470), 40: (-0.0277, 0.0232, 0.0487), 41: (-0.0388, 0.0234, 0.0466),
    48: (-0.0251, -0.0448, 0.0555), 49: (-0.0157, -0.0369, 0.0653), 50: (-0.0066, -0.0337, 0.0700),
    51: (0.0, -0.0342, 0.0712), 57: (0.0, -0.0564, 0.0657), 58: (-0.0117, -0.0554, 0.0625),
    59: (-0.0184, -0.0523, 0.0598),
    60: (-0.0232, -0.0447, 0.0544), 61: (-0.0100, -0.0425, 0.0622), 62: (0.0, -0.0433, 0.0630),
    66: (0.0, -0.0443, 0.0646), 67: (-0.0107, -0.0441, 0.0620),
}  # fmt: skip
_SURFACE_M = 0.006  # what lies this little before a landmark (lashes, a brow, stubble) does not hide it
_SLACK_PX = 2.0  # and so many pixels' width, because depth is that of a pixel's nearest sample


@dataclass(frozen=True)
class SurfacePoints:
    """Points that stay at their place of a mesh, whatever shape it takes."""

    triangles: Ints  # [L, 3] vertices
    weights: Floats  # [L, 3] sum 1

    def __call__(self, vertices: Floats) -> Floats:
        """[N, 3] m -> [L, 3] m."""
        return np.asarray(np.einsum("lk,lkd->ld", self.weights, vertices[self.triangles]), np.float32)

    @classmethod
    def nearest(cls, places: Floats, vertices: Floats, triangles: Ints, steps: int = 4) -> SurfacePoints:
        """The points of a mesh nearest to places [L, 3], on a grid of `steps` intervals along each edge."""
        grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
        spots = np.einsum("gk,tkd->tgd", grid, vertices[triangles].astype(np.float64)).reshape(-1, 3)
        near = cKDTree(spots).query(places)[1]
        return cls(triangles[near // len(grid)], grid[near % len(grid)].astype(np.float32))


def makehuman_places() -> Floats:
    """[68, 3] m on MakeHuman's mean head, both halves alike."""
    places = np.zeros((COUNT, 3), np.float32)
    for row, place in _PLACES.items():
        places[MIRROR[row]] = np.array([-1, 1, 1]) * place
        places[row] = place
    return places


def drawn_brows(renderer: Renderer, landmarks: Floats) -> Floats:
    """The landmarks [68, 3] with those of the brows moved onto the brows as they are drawn.

    A brow is a strip with hairs painted on it, and its shape differs from head to head; the skin below says little
    about it. Five points a side run along the upper part of what is painted, between its ends.
    """
    moved = landmarks.copy()
    points, opacity, sides = _brow_samples(renderer)
    for label, rows, sign in ((BROW_R, range(17, 22), -1), (BROW_L, range(26, 21, -1), 1)):
        own = (sides == label) & (opacity > 0.25) & (points[:, 0] * sign > 0)
        if own.sum() < 30:  # no brows, or as good as none
            continue
        brow = points[own]
        out = np.abs(brow[:, 0])
        outer, inner = (float(np.quantile(out, share)) for share in (0.97, 0.03))
        for row, at in zip(rows, np.linspace(outer, inner, 5), strict=True):
            near = brow[np.abs(out - at) <= max(0.0025, np.sort(np.abs(out - at))[5])]
            height = np.quantile(near[:, 1], 0.65)
            moved[row] = sign * at, height, near[np.argmin(np.abs(near[:, 1] - height)), 2]
    return moved


def _brow_samples(renderer: Renderer) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Middles of the brows' triangles [T, 3] m, their opacity [T] and class [T]."""
    scene = renderer.scene
    chosen = np.isin(scene.classes[scene.triangles], (BROW_R, BROW_L)).all(1)
    triangles, uvs, material = scene.triangles[chosen], scene.uvs[chosen], scene.material[chosen]
    grid = np.array([(4, 1, 1), (1, 4, 1), (1, 1, 4), (2, 2, 2)], np.float32) / 6
    points = np.einsum("gk,tkd->tgd", grid, scene.positions[triangles]).reshape(-1, 3)
    fade = np.clip(np.einsum("gk,tk->tg", grid, scene.fade[triangles]), 0, 1).ravel()
    uv = np.einsum("gk,tkd->tgd", grid, uvs).reshape(-1, 2)
    place = np.repeat(renderer.textures[material], len(grid), 0)
    textured = place[:, 1] > 0
    uv = uv - np.floor(uv)
    column = np.minimum((uv[:, 0] * place[:, 1]).astype(np.int64), np.maximum(place[:, 1] - 1, 0))
    line = np.minimum(((1 - uv[:, 1]) * place[:, 2]).astype(np.int64), np.maximum(place[:, 2] - 1, 0))
    alpha = renderer.texels[place[:, 0] + line * place[:, 1] + column, 3] / TEXEL_ONE
    sides = np.repeat(scene.classes[triangles[:, 0]], len(grid))
    return points.astype(np.float32), np.asarray(fade * np.where(textured, alpha, 1.0), np.float32), sides


def project_landmarks(landmarks: Floats, view: View) -> tuple[Floats, Floats]:
    """Pixels [L, 2] (centres of pixels at +0.5) and depths [L] m of points [L, 3] m; NaN behind the camera."""
    local = landmarks @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    depth = np.where(local[:, 2] > 1e-3, local[:, 2], np.nan)
    flat = local @ view.K.T
    return np.asarray(flat[:, :2] / depth[:, None], np.float32), np.asarray(depth, np.float32)


def visible_landmarks(pixels: Floats, depths: Floats, view: View, surface: Floats) -> NDArray[np.bool_]:
    """[L] whether nothing in a picture hides them; those outside of it are hidden.

    Args:
        pixels: [L, 2]. depths: [L] m. Both as `project_landmarks` gives them.
        view: Of the picture.
        surface: [S, S] m, depth of the picture; 0 where empty.
    """
    side = len(surface)
    finite = np.asarray(np.isfinite(pixels).all(1), np.bool_)
    column, line = np.floor(np.where(finite[:, None], pixels, -2)).astype(np.int64).T
    inside = finite & (column >= 0) & (column < side) & (line >= 0) & (line < side)
    padded = np.pad(surface, 1)
    column, line = np.clip(column, 0, side - 1), np.clip(line, 0, side - 1)
    # at an edge a pixel may show what lies before its neighbours
    around = [padded[line + dy, column + dx] for dy in range(3) for dx in range(3)]
    gap = np.min([np.abs(shown - np.nan_to_num(depths)) for shown in around], axis=0)
    slack = _SURFACE_M + _SLACK_PX * np.nan_to_num(depths) / view.K[0, 0]
    return np.asarray(inside & (gap <= slack))
