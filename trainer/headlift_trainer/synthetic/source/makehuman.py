"""The source `makehuman`: seeds to heads behind the interface of `source.interface`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.render.scene import Scene
from headlift_trainer.synthetic.source.appearance import Appearance, dress
from headlift_trainer.synthetic.source.expressions import expression_code
from headlift_trainer.synthetic.source.head import HeadAssets, HeadMesh, sample_head
from headlift_trainer.synthetic.source.interface import BaseMesh
from headlift_trainer.synthetic.source.landmarks import SurfacePoints, makehuman_places


@dataclass(frozen=True)
class MakeHumanHead:
    """One head of MakeHuman's own shapes."""

    mesh: HeadMesh
    assets: HeadAssets
    marks: SurfacePoints  # the landmarks

    @property
    def seed(self) -> int:
        """Its number."""
        return self.mesh.seed

    @property
    def scene(self) -> Scene:
        """All parts, baked."""
        return self.mesh.scene

    @property
    def base_vertices(self) -> Floats:
        """[N, 3] m, every vertex of MakeHuman's base mesh."""
        return self.mesh.base_vertices

    @property
    def hair_points(self) -> Floats:
        """[20000, 3] m on opaque hair; [0, 3] where there is none."""
        return self.mesh.hair.points

    @property
    def scalp(self) -> Floats:
        """[N] 0..1, how much of the skin is painted in the hair's colour."""
        return self.mesh.hair.scalp

    @property
    def expression_code(self) -> Floats:
        """[53] 0..1, the expression in ICT's blendshapes."""
        return expression_code(self.mesh.person.expression)

    @property
    def landmarks(self) -> Floats:
        """[68, 3] m, iBUG's landmarks on the skin."""
        return self.marks(self.base_vertices)

    def attributes(self) -> dict[str, object]:
        """What was drawn, as JSON values."""
        return self.mesh.attributes() | {"source": "makehuman"}

    def dress(self, rng: np.random.Generator) -> Appearance:
        """A new appearance and light."""
        return dress(self.mesh, self.assets, rng)


class MakeHumanSource:
    """MakeHuman's identities, skins and hair."""

    name = "makehuman"

    def __init__(self, root: Path) -> None:
        self._assets = HeadAssets(root)

    @cached_property
    def marks(self) -> SurfacePoints:
        """The landmarks on the base mesh."""
        topology = self._assets.topology
        hidden = topology.mouth_inside | topology.eye_socket
        skin = topology.triangles[~hidden[topology.triangles].any(1)]
        return SurfacePoints.nearest(makehuman_places(), topology.mean, skin)

    def base_mesh(self) -> BaseMesh:
        """MakeHuman's mean head."""
        topology = self._assets.topology
        return BaseMesh(topology.mean, topology.triangles)

    def head(self, seed: int) -> MakeHumanHead:
        """The head of a seed."""
        return MakeHumanHead(sample_head(seed, self._assets), self._assets, self.marks)
