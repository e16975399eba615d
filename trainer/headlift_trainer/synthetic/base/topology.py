"""What the vertices of the base mesh mean: canonical frame, regions, hairline. Computed once on the mean head.

All fields live on base vertices, so they hold for every shape that targets can make.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from headlift.errors import FormatError
from headlift_trainer.synthetic.arrays import Floats, Ints, Mask
from headlift_trainer.synthetic.base.assets import MACRO_RACES, MakeHumanAssets
from headlift_trainer.synthetic.classes import EAR_L, EAR_R, FACE, LIP_LOW, LIP_UP, MOUTH, NECK, NOSE

EYE_MIDPOINT = (0.0, 0.028, 0.042)  # m, where the middle of the two eyeballs lies in the canonical frame
EYE_DISTANCE = 0.063  # m, between the eyeball centres of the mean adult head


# Hairline: azimuth about the ears' axis (0 front, 180 back; degrees) -> height of the lowest hair on the mean head, m.
_HAIRLINE_DEG = (0, 20, 35, 45, 50, 55, 62, 68, 75, 105, 115, 125, 140, 180)
_HAIRLINE_Y = (0.104, 0.104, 0.098, 0.080, 0.050, 0.015, -0.005, 0.025, 0.046, 0.046, -0.004, -0.044, -0.068, -0.078)
_EAR_AXIS_Z = -0.04  # m

# The red of the lips on the mean head: distance from the middle -> top, line between the lips, bottom, m.
_LIP_X = (0.0, 0.0055, 0.0105, 0.0145, 0.0185, 0.022, 0.0255)
_LIP_TOP = (-0.0356, -0.0345, -0.0352, -0.0365, -0.0378, -0.0413, -0.0438)
_LIP_MIDDLE = (-0.0434, -0.0434, -0.0434, -0.0434, -0.0434, -0.0438, -0.0442)
_LIP_BOTTOM = (-0.0550, -0.0565, -0.0562, -0.0555, -0.0530, -0.0488, -0.0446)


@dataclass(frozen=True)
class Frame:
    """The similarity that takes base units (dm) to the canonical head frame (m)."""

    origin: Floats  # [3] dm, middle of the eyeballs
    scale: float  # m per dm

    def apply(self, points: Floats) -> Floats:
        """[..., 3] dm -> [..., 3] m."""
        return np.asarray((points - self.origin) * self.scale + np.array(EYE_MIDPOINT), np.float32)


class Topology:
    """Regions of the base mesh. Legend: N base vertices, T triangles of the skin."""

    def __init__(self, assets: MakeHumanAssets) -> None:
        self._assets = assets
        base = assets.base
        skin = base.groups == "body"
        if not skin.any():
            raise FormatError("base.obj has no group `body`; give MakeHuman's own base mesh.")
        self.triangles: Ints = base.triangles[skin]  # [T, 3]
        self.corner_uvs: Floats = base.corner_uvs[skin]  # [T, 3, 2]
        self._uv_triangles: Ints = base.uv_triangles[skin]
        mouth = [name for name in assets.target_names("mouth") if "lip-volume" in name]
        self._upper_lip_moves = assets.support([name for name in mouth if "upperlip" in name])
        self._lower_lip_moves = assets.support([name for name in mouth if "lowerlip" in name])
        self._reference: tuple[float, float] | None = None
        mean = self._mean_head()
        self._reference = self._eye_and_mouth_distances(mean)[1:]
        self.frame_of_mean = self.frame(mean)
        self.mean: Floats = self.frame_of_mean.apply(mean)  # [N, 3] m
        self.ear: Mask = self._ears()
        self.nose = assets.support(assets.target_names("nose")) > 0.07
        self.mouth_inside, self.eye_socket = self._pockets()
        self.upper_lip, self.lower_lip = self._lips()  # [N] bool, the red of the lips
        self.hairline = self._hairline()  # [N] m, positive where hair grows
        self.classes = self._classes()  # [N] uint8

    def frame(self, vertices: Floats) -> Frame:
        """The canonical frame of one (neutral) shape [N, 3] dm: eyes fixed, size from eye and eye-mouth distance."""
        middle, eyes, mouth = self._eye_and_mouth_distances(vertices)
        mean_eyes, mean_mouth = self._reference or (eyes, mouth)
        return Frame(middle, EYE_DISTANCE / (mean_eyes * 0.5 * (eyes / mean_eyes + mouth / mean_mouth)))

    def eyeballs(self, vertices: Floats) -> tuple[Floats, Floats, Floats]:
        """Vertices [E, 3] of the eye mesh on this shape, and the centres of the left (+X) and the right eyeball, dm."""
        eyes = self._assets.proxy("eyes", "high-poly").fit(vertices)
        left = eyes[:, 0] > 0
        return eyes, eyes[left].mean(0), eyes[~left].mean(0)

    def _eye_and_mouth_distances(self, vertices: Floats) -> tuple[Floats, float, float]:
        _, left, right = self.eyeballs(vertices)
        middle = (left + right) / 2
        upper, lower = self._upper_lip_moves > 0.015, self._lower_lip_moves > 0.015
        mouth = (vertices[upper].mean(0) + vertices[lower].mean(0)) / 2
        return (
            np.asarray(middle, np.float32),
            float(np.linalg.norm(left - right)),
            float(np.linalg.norm(middle - mouth)),
        )

    def _mean_head(self) -> Floats:
        vertices = self._assets.base.vertices.copy()
        for sex in ("male", "female"):
            for race in MACRO_RACES:
                self._assets.offset(vertices, f"macrodetails/{race}-{sex}-young", 1 / 6)
            self._assets.offset(vertices, f"macrodetails/universal-{sex}-young-averagemuscle-averageweight", 0.5)
        return vertices

    def _ears(self) -> Mask:
        ear = np.zeros(len(self.mean), bool)
        for side in "lr":
            moved = self._assets.support([f"ears/{side}-ear-trans-up"])
            ear |= moved > 0.9 * moved.max()
        return ear

    def _pockets(self) -> tuple[Mask, Mask]:
        """Vertices of the inner mouth and of the eye sockets: texture islands of their own, within the head."""
        count = len(self._assets.base.uvs)
        rows, columns = self._uv_triangles[:, :2].ravel(), self._uv_triangles[:, 1:].ravel()
        _, island = connected_components(
            coo_matrix((np.ones(len(rows)), (rows, columns)), (count, count)), directed=False
        )
        mouth, socket = np.zeros(len(self.mean), bool), np.zeros(len(self.mean), bool)
        of_triangle = island[self._uv_triangles[:, 0]]
        for label in np.unique(of_triangle):
            members = np.unique(self.triangles[of_triangle == label])
            points = self.mean[members]
            inside = np.abs(points[:, 0]).max() < 0.06 and points[:, 1].min() > -0.09 and points[:, 2].min() > -0.06
            if inside and not self.nose[members].all():
                (mouth if points[:, 1].mean() < 0 else socket)[members] = True
        return mouth, socket

    def _lips(self) -> tuple[Mask, Mask]:
        """The red of both lips, as far as MakeHuman's skins paint it: targets alone miss the corners."""
        x, y, z = self.mean.T
        out = np.abs(x)
        middle = np.interp(out, _LIP_X, _LIP_MIDDLE)
        near = (out < _LIP_X[-1]) & (z > 0.03) & ~self.mouth_inside
        upper = near & (y >= middle) & (y < np.interp(out, _LIP_X, _LIP_TOP))
        lower = near & (y < middle) & (y > np.interp(out, _LIP_X, _LIP_BOTTOM))
        return upper | (self._upper_lip_moves > 0.02) & near, lower | (self._lower_lip_moves > 0.02) & near & ~upper

    def _hairline(self) -> Floats:
        x, y, z = self.mean.T
        azimuth = np.degrees(np.arctan2(np.abs(x), z - _EAR_AXIS_Z))
        field = y - np.interp(azimuth, _HAIRLINE_DEG, _HAIRLINE_Y)
        field[self.ear] = np.minimum(field[self.ear], -0.006)
        field[self.mouth_inside | self.eye_socket] = -0.05
        return np.asarray(np.clip(field, -0.05, 0.05), np.float32)

    def _classes(self) -> NDArray[np.uint8]:
        x, y, z = self.mean.T
        classes = np.full(len(self.mean), FACE, np.uint8)
        jaw = np.where(z > -0.055, -0.092 + np.clip(0.055 - z, 0, 1) * 0.52, -0.03)
        classes[y < jaw] = NECK
        wing = np.interp(y, (-0.024, -0.018, -0.006, 0.006, 0.022), (0.014, 0.0185, 0.0175, 0.0125, 0.0085))
        classes[self.nose | ((np.abs(x) < wing) & (y > -0.024) & (y < 0.022) & (z > 0.04))] = NOSE
        classes[self.lower_lip] = LIP_LOW
        classes[self.upper_lip] = LIP_UP
        classes[self.ear] = np.where(x[self.ear] > 0, EAR_L, EAR_R)
        classes[self.mouth_inside] = MOUTH
        return classes
