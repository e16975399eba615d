"""ICT's mean, identity modes and expressions as offsets of MakeHuman's base mesh.

Skin takes ICT's offsets at its corresponding points; where ICT has no surface (inside of the mouth, eye sockets, body)
the offsets are continued smoothly. Eyes, teeth, tongue and lashes, which MakeHuman ties to helper vertices, follow
ICT's own eyeballs, teeth and lids.

Legend: N base vertices, S skin vertices, K shapes.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.assets import MACRO_RACES, MakeHumanAssets
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.synthetic.source.ict.model import (
    GUMS,
    LOWER_TEETH,
    MOUTH_SOCKET,
    SCLERA_L,
    SCLERA_R,
    UPPER_TEETH,
    IctModel,
    fit_sphere,
)
from headlift_trainer.synthetic.source.ict.registration import Registration, laplacian, register, skin_count

MODES = 60  # of 100: what follows moves nothing by more than a tenth of a millimetre
_STILL = (-0.32, -0.17)  # m, body below is not moved at all, above freely
# How MakeHuman's teeth stand in ICT's mean mouth: step in metres, and width and height relative to their own, which
# keeps their gums behind ICT's thinner lips.
_TEETH: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "helper-upper-teeth": ((0.0, 0.0005, 0.0065), 0.92, 0.85),
    "helper-lower-teeth": ((0.0, -0.0010, 0.0040), 0.90, 0.70),
    "helper-tongue": ((0.0, -0.0010, 0.0050), 0.90, 0.90),
}
_PRIOR = 0.3  # how strongly coefficients are held near 0 when MakeHuman's changes are told in ICT's modes
_FEATHER = 0.003  # m, pull to zero of vertices without a surface, relative to an edge


class IctShapes:
    """ICT's heads on MakeHuman's mesh: mean + identity @ coefficients + expression @ code, in metres."""

    def __init__(self, root: Path, makehuman: MakeHumanAssets, topology: Topology) -> None:
        self._makehuman, self._topology = makehuman, topology
        self.model = IctModel(root)
        self._registration = register(topology, self.model)
        stacked = np.concatenate(
            [self.model.neutral[None] * 0, self.model.identity[:MODES], self.model.expression]
        )  # the first row becomes the step from MakeHuman's mean to ICT's
        moved = self._carried(stacked)
        self.mean_offset: Floats = moved[0]  # [N, 3] m, from `topology.mean`
        self.identity: Floats = moved[1 : 1 + MODES]  # [K, N, 3] m per standard deviation
        self.expression: Floats = moved[1 + MODES :]  # [53, N, 3] m
        self._changed: dict[tuple[str, str, str], Floats] = {}

    def landmarks(self, vertices: Floats) -> Floats:
        """[68, 3] m, iBUG's landmarks on a head with these base vertices [N, 3]."""
        triangles, weights = self._landmarks
        return np.asarray(np.einsum("lk,lkd->ld", weights, vertices[triangles]), np.float32)

    @cached_property
    def _landmarks(self) -> tuple[NDArray[np.int32], Floats]:
        """Triangles [68, 3] of base vertices and weights [68, 3] that lie nearest to ICT's 68 vertices."""
        topology = self._topology
        pocket = topology.mouth_inside | topology.eye_socket
        triangles = topology.triangles[~pocket[topology.triangles].any(1)]
        corners = (topology.mean + self.mean_offset)[triangles].astype(np.float64)
        grid = np.array([(i, j, 4 - i - j) for i in range(5) for j in range(5 - i)], np.float64) / 4
        spots = np.einsum("gk,tkd->tgd", grid, corners).reshape(-1, 3)
        near = cKDTree(spots).query(self.model.neutral[self.model.landmarks])[1]
        return triangles[near // len(grid)], grid[near % len(grid)].astype(np.float32)

    def identity_offset(self, coefficients: Floats) -> Floats:
        """[N, 3] m from MakeHuman's mean head to the head with these [MODES] coefficients."""
        return np.asarray(self.mean_offset + np.tensordot(coefficients, self.identity, 1), np.float32)

    def change(self, race: str, sex: str, age: str) -> Floats:
        """[N, 3] m, what comes nearest in ICT's modes to one of MakeHuman's people, from the average young adult."""
        key = (race, sex, age)
        if key not in self._changed:
            wanted = self.directions[race] + self.directions["male"] * (0.5 if sex == "male" else -0.5)
            if age == "old":
                wanted = wanted + self.directions["old"]
            self._changed[key] = np.asarray(np.tensordot(wanted, self.identity, 1), np.float32)
        return self._changed[key]

    @cached_property
    def directions(self) -> dict[str, Floats]:
        """[MODES] plausible coefficients that come nearest to a change of MakeHuman's face: `male`, `old`, descents."""
        face = self._face
        basis = self.identity[:, face].reshape(MODES, -1).astype(np.float64)
        gram = basis @ basis.T
        gram += _PRIOR * np.trace(gram) / MODES * np.eye(MODES)
        found = {}
        for name, change in self._changes().items():
            wanted = change[face].astype(np.float64)
            found[name] = np.asarray(np.linalg.solve(gram, basis @ (wanted - wanted.mean(0)).ravel()), np.float32)
        return found

    @cached_property
    def _face(self) -> NDArray[np.int64]:
        mean = self._topology.mean[: skin_count(self._topology)]
        hidden = (self._topology.mouth_inside | self._topology.eye_socket)[: len(mean)]
        return np.flatnonzero((mean[:, 1] > -0.10) & (mean[:, 2] > -0.02) & ~hidden)

    def _changes(self) -> dict[str, Floats]:
        """[N, 3] m, how MakeHuman's shapes differ."""
        scale = self._topology.frame_of_mean.scale

        def shape(sex: str, age: str, races: tuple[str, ...]) -> Floats:
            total = np.zeros_like(self._topology.mean)
            for race in races:
                self._makehuman.offset(total, f"macrodetails/{race}-{sex}-{age}", scale / len(races))
            return total

        young = {sex: shape(sex, "young", MACRO_RACES) for sex in ("male", "female")}
        average = (young["male"] + young["female"]) / 2
        changes = {"male": young["male"] - young["female"]}
        changes["old"] = (shape("male", "old", MACRO_RACES) + shape("female", "old", MACRO_RACES)) / 2 - average
        for race in MACRO_RACES:
            changes[race] = (shape("male", "young", (race,)) + shape("female", "young", (race,))) / 2 - average
        return changes

    def _carried(self, offsets: Floats) -> Floats:
        """Offsets [K, I, 3] of ICT's vertices -> [K, N, 3] of base vertices; row 0 is the step between the means."""
        topology, found = self._topology, self._registration
        skin = skin_count(topology)
        result = np.zeros((len(offsets), len(topology.mean), 3), np.float32)
        at_skin = np.einsum("sk,nskd->nsd", found.weights[found.known], offsets[:, found.triangles[found.known]])
        at_skin[0] = (found.vertices - topology.mean[:skin])[found.known]
        sources = [at_skin]
        fixed = [np.flatnonzero(found.known)]
        mouth = np.flatnonzero(topology.mouth_inside[:skin] & ~found.known)
        inner = np.concatenate([np.arange(part.start, part.stop) for part in (MOUTH_SOCKET, GUMS)])
        deep = mouth[topology.mean[mouth, 2] < topology.mean[mouth, 2].max(initial=-1.0) - 0.020]
        if len(deep):
            near = cKDTree(self.model.neutral[inner]).query(topology.mean[deep], k=4)[1]
            moved = offsets[:, inner[near]].mean(2)
            moved[0] = at_skin[0][cKDTree(topology.mean[fixed[0]]).query(topology.mean[deep])[1]]
            sources.append(moved)
            fixed.append(deep)
        result[:, :skin] = self._continued(np.concatenate(fixed), np.concatenate(sources, 1), found)
        self._move_helpers(result, offsets)
        return result

    def _continued(self, fixed: NDArray[np.int64], values: Floats, found: Registration) -> Floats:
        """Offsets [K, S, 3] of the whole skin from those of its `fixed` vertices; still at the body's lower end."""
        topology = self._topology
        count = skin_count(topology)
        edges = laplacian(topology.triangles, count)
        still = 1 - smoothstep(*_STILL, topology.mean[:count, 1])
        weight = np.full(count, _FEATHER * 0.01)
        weight += 0.3 * still.astype(np.float64)
        is_free = np.ones(count, bool)
        is_free[fixed] = False
        free = np.flatnonzero(is_free)
        matrix = (edges + diags(weight)).tocsr()
        known = values.transpose(1, 0, 2).reshape(len(fixed), -1).astype(np.float64)
        solved = splu(matrix[free][:, free].tocsc()).solve(-(matrix[free][:, fixed] @ known))
        full = np.zeros((count, known.shape[1]), np.float32)
        full[fixed], full[free] = known, solved
        # a little smoothing takes the steps between ICT's triangles out
        degree = np.asarray(edges.diagonal())
        full -= (0.3 * (edges @ full) / np.maximum(degree, 1)[:, None]) * found.known[:, None]
        return full.reshape(count, -1, 3).transpose(1, 0, 2)

    def _move_helpers(self, result: Floats, offsets: Floats) -> None:
        """Offsets of the vertices that are no skin, in place."""
        topology, model = self._topology, self.model
        skin = skin_count(topology)
        mean = topology.mean
        helpers = np.arange(skin, len(mean))
        outside = np.flatnonzero(~(topology.mouth_inside | topology.eye_socket)[:skin])
        distance, near = cKDTree(mean[outside]).query(mean[helpers], k=6)
        share = 1 / (distance + 1e-3) ** 2
        share = (share / share.sum(1, keepdims=True)).astype(np.float32)
        result[:, helpers] = np.einsum("hk,nhkd->nhd", share, result[:, outside[near]])
        for name, part in (("helper-l-eye", SCLERA_L), ("helper-r-eye", SCLERA_R)):
            members = self._members(name)
            result[:, members] = _as_spheres(mean[members], model.neutral[part], offsets[:, part])
        for name, part in (("helper-upper-teeth", UPPER_TEETH), ("helper-lower-teeth", LOWER_TEETH)):
            members = self._members(name)
            placed = mean[members] + _step_into_mouth(name, mean[members])
            result[:, members] = _as_affine(placed, model.neutral[part], offsets[:, part])
            result[0, members] = placed - mean[members]
        members = self._members("helper-tongue")
        placed = mean[members] + _step_into_mouth("helper-tongue", mean[members])
        near = cKDTree(model.neutral[GUMS]).query(placed, k=12)[1]
        result[:, members] = offsets[:, GUMS][:, near].mean(2)
        result[0, members] = placed - mean[members]

    def _members(self, group: str) -> NDArray[np.int64]:
        base = self._makehuman.base
        return np.unique(base.triangles[base.groups == group]).astype(np.int64)


def _step_into_mouth(group: str, vertices: Floats) -> Floats:
    """Offsets [M, 3] that set teeth or tongue into ICT's mean mouth; edges of teeth keep their height."""
    step, width, height = _TEETH[group]
    edge = vertices[:, 1].min() if "upper" in group else vertices[:, 1].max()
    scaled = (vertices - np.array([0.0, edge, 0.0])) * (np.array([width, height, 1.0]) - 1)
    return np.asarray(scaled + np.array(step), np.float32)


def _as_spheres(vertices: Floats, eyeball: Floats, offsets: Floats) -> Floats:
    """Offsets [K, M, 3] of an eyeball's vertices: moved and scaled as ICT's; row 0 lays it onto ICT's."""
    center, radius = fit_sphere(vertices)
    ict_center, ict_radius = fit_sphere(eyeball)
    rays = eyeball - ict_center
    moved = offsets.mean(1)
    grown = ((offsets - moved[:, None]) * rays).sum((1, 2)) / (rays**2).sum()
    moved[0] = ict_center - center
    scale = ict_radius / radius
    grown[0] = 0.0
    result = moved[:, None] + grown[:, None, None] * scale * (vertices - center)
    result[0] += (scale - 1) * (vertices - center)
    return np.asarray(result, np.float32)


def _as_affine(vertices: Floats, reference: Floats, offsets: Floats) -> Floats:
    """Offsets [K, M, 3] at vertices from those of another mesh of the same thing, by the best affine maps."""
    system = np.concatenate([reference, np.ones((len(reference), 1))], 1).astype(np.float64)
    maps = np.linalg.pinv(system) @ offsets.transpose(1, 0, 2).reshape(len(reference), -1)
    placed = np.concatenate([vertices, np.ones((len(vertices), 1))], 1) @ maps
    return np.asarray(placed.reshape(len(vertices), -1, 3).transpose(1, 0, 2), np.float32)
