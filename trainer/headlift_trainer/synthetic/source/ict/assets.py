"""MakeHuman's folder with an ICT head in place of its own: everything that fits MakeHuman's mesh fits ICT's head.

The head generator draws a person and asks its assets for offsets of the base mesh. Here the base mesh is ICT's mean
with one draw of ICT's identity modes; a change of sex, age or descent is half MakeHuman's and half what comes nearest
to it in ICT's modes; MakeHuman's units of expression are performed by ICT's blendshapes.

Legend: N base vertices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.assets import MACRO_RACES, MakeHumanAssets, ObjMesh, Target
from headlift_trainer.synthetic.base.textures import TextureAtlas
from headlift_trainer.synthetic.base.topology import EYE_MIDPOINT, Topology
from headlift_trainer.synthetic.source.expressions import EXPRESSIONS, shapes_of
from headlift_trainer.synthetic.source.head import HeadAssets
from headlift_trainer.synthetic.source.ict.model import fit_sphere
from headlift_trainer.synthetic.source.ict.shapes import MODES, IctShapes

_MAKEHUMAN_SHARE = 0.5  # of changes of sex, age, descent and detail; ICT's modes do the rest
_ICT_SHARE = 0.6
_DEVIATION = 0.8  # of ICT's coefficients; at 1 every third head is a caricature
_LIMIT = 2.2  # of one coefficient
_GUMS = 0.0035  # m, how far teeth stay behind the skin
_CORNEA = np.cos(np.radians(38.0))
_CLEARANCE = (1.015, 1.075)  # of lids from the eyeball's middle, in radii of its helper: beside and on the cornea


def draw_coefficients(rng: np.random.Generator, shapes: IctShapes) -> Floats:
    """[MODES] of one identity, without what makes a face male: that follows the person's sex."""
    drawn = np.clip(rng.normal(0.0, _DEVIATION, MODES), -_LIMIT, _LIMIT)
    male = shapes.directions["male"] / np.linalg.norm(shapes.directions["male"])
    return np.asarray(drawn - 0.8 * (drawn @ male) * male, np.float32)


@dataclass(frozen=True)
class _Mouth:
    """Base vertices in and around the mouth."""

    around: NDArray[np.int64]  # [A] skin of the face
    teeth: NDArray[np.int64]  # [B] helpers of teeth and tongue
    lining: NDArray[np.int64]  # [C] inside of lips and cheeks
    gaps: Floats  # [C] m, how far the lining stays behind the face

    @classmethod
    def of(cls, source: MakeHumanAssets, topology: Topology) -> _Mouth:
        """Find them on the mean head."""
        base, mean = source.base, topology.mean
        x, y, z = mean.T
        skin = np.arange(len(mean)) <= topology.triangles.max()
        inside = topology.mouth_inside & skin
        around = (np.abs(x) < 0.045) & (y > -0.09) & (y < -0.005) & (z > 0.02) & ~topology.nose & ~inside & skin
        groups = ("helper-upper-teeth", "helper-lower-teeth", "helper-tongue")
        teeth = np.unique(base.triangles[np.isin(base.groups, groups)]).astype(np.int64)
        mixed = inside[topology.triangles].any(1) & ~inside[topology.triangles].all(1)
        seam = np.unique(topology.triangles[mixed])
        lining = np.flatnonzero(inside)
        depth = cKDTree(mean[seam]).query(mean[lining])[0]
        return cls(
            np.flatnonzero(around), teeth, lining, np.clip(0.5 * (depth - 0.003), -0.01, _GUMS).astype(np.float32)
        )


class IctMakeHuman(MakeHumanAssets):
    """MakeHuman's assets around one ICT head. Files are read, and kept, by `source`."""

    def __init__(self, source: MakeHumanAssets, topology: Topology, shapes: IctShapes, coefficients: Floats) -> None:
        self._data, self._extra = source._data, source._extra
        self._targets, self._proxies = source._targets, source._proxies
        self._source, self._shapes = source, shapes
        self._per_metre = np.float32(1 / topology.frame_of_mean.scale)
        offset = shapes.identity_offset(coefficients) * self._per_metre
        mean = (topology.mean - np.array(EYE_MIDPOINT, np.float32)) * self._per_metre + topology.frame_of_mean.origin
        plain = source.base.vertices
        # at the average person the changes below must add up to nothing
        self._vertices = np.asarray(mean + offset - _MAKEHUMAN_SHARE * (mean - plain), np.float32)
        self._near_eyes = _rims(source, topology)
        self._mouth = _Mouth.of(source, topology)

    @property
    def base(self) -> ObjMesh:
        """The base mesh in the shape of this head, dm."""
        return replace(self._source.base, vertices=self._vertices)

    def target(self, name: str) -> Target:
        """MakeHuman's target `<region>/<name>`."""
        return self._source.target(name)

    def offset(self, vertices: Floats, name: str, weight: float) -> None:
        """Add `weight` times a change to the vertices [N, 3] dm, in place."""
        region, *words = name.split("/")
        if region == "expression":
            self._perform(vertices, name, weight)
            return
        self._source.offset(vertices, name, _MAKEHUMAN_SHARE * weight)
        if region == "macrodetails":
            race, _, rest = words[0].partition("-")
            sex, _, age = rest.partition("-")
            if race in MACRO_RACES and sex in ("male", "female"):
                change = self._shapes.change(race, sex, age)
                vertices += np.float32(_ICT_SHARE * weight) * self._per_metre * change

    def perform(self, vertices: Floats, code: Floats) -> None:
        """Move the vertices [N, 3] dm by ICT's blendshapes with these weights [53], in place."""
        for i in np.flatnonzero(code):
            vertices += np.float32(code[i]) * self._per_metre * self._shapes.expression[i]
        self._clear_eyeballs(vertices)
        self._clear_lips(vertices)

    def _perform(self, vertices: Floats, name: str, weight: float) -> None:
        unit = name.rsplit("/", 1)[1]
        shapes = shapes_of(unit)
        if shapes is None:
            self._source.offset(vertices, name, weight)
            return
        for shape, share in shapes.items():
            move = self._shapes.expression[EXPRESSIONS.index(shape)]
            vertices += np.float32(weight * share) * self._per_metre * move
        if unit.startswith("eye-"):
            self._clear_eyeballs(vertices)
        elif unit.startswith("mouth-"):
            self._clear_lips(vertices)

    def _clear_eyeballs(self, vertices: Floats) -> None:
        """Push lids out of the eyeballs: a blend of shapes cuts through the sphere that real lids slide on."""
        for helper, lids in self._near_eyes:
            center, radius = fit_sphere(vertices[helper])
            ray = vertices[lids] - center
            length = np.linalg.norm(ray, axis=1)
            on_cornea = np.clip((ray[:, 2] / length - _CORNEA) / 0.08, 0.0, 1.0)
            least = radius * (_CLEARANCE[0] + (_CLEARANCE[1] - _CLEARANCE[0]) * on_cornea)
            vertices[lids] = center + ray * np.maximum(1.0, least / length)[:, None]

    def _clear_lips(self, vertices: Floats) -> None:
        """Push teeth and the inside of the mouth back where they would come out beside the lips."""
        mouth = self._mouth
        skin = vertices[mouth.around]
        tree = cKDTree(skin[:, :2])
        for members, gap in ((mouth.teeth, _GUMS), (mouth.lining, mouth.gaps)):
            nearest = tree.query(vertices[members, :2], k=3)[1]
            clearance = np.minimum(skin[nearest, 2].min(1) - vertices[members, 2] - gap * self._per_metre, 0.0)
            vertices[members, 2] += clearance.min() if members is mouth.teeth else clearance


class IctHeadAssets(HeadAssets):
    """What heads are made from, around one ICT head; regions and textures are MakeHuman's."""

    makehuman: IctMakeHuman

    def __init__(self, shared: HeadAssets, makehuman: IctMakeHuman) -> None:
        self.makehuman = makehuman
        self._shared = shared

    @cached_property
    def topology(self) -> Topology:
        """Regions of the base mesh."""
        return self._shared.topology

    @cached_property
    def atlas(self) -> TextureAtlas:
        """All textures."""
        return self._shared.atlas


def _rims(source: MakeHumanAssets, topology: Topology) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For both eyes the helper's vertices, and the skin that slides over it."""
    found = []
    base, mean = source.base, topology.mean
    skin = np.arange(int(topology.triangles.max()) + 1)
    skin = skin[~topology.eye_socket[skin] & ~topology.mouth_inside[skin]]
    for group in ("helper-l-eye", "helper-r-eye"):
        helper = np.unique(base.triangles[base.groups == group])
        center, radius = fit_sphere(mean[helper])
        distance = np.linalg.norm(mean[skin] - center, axis=1)
        lids = skin[(distance < 1.5 * radius) & (mean[skin, 2] > center[2])]
        found.append((helper, lids))
    return found
