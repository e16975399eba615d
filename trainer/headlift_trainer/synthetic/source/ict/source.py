"""The source `ict`: seeds to heads behind the interface of `source.interface`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.render.scene import Scene
from headlift_trainer.synthetic.source.appearance import Appearance, dress
from headlift_trainer.synthetic.source.expressions import expression_code
from headlift_trainer.synthetic.source.head import HeadAssets, HeadMesh, perform_head, sample_head
from headlift_trainer.synthetic.source.ict.assets import IctHeadAssets, IctMakeHuman, draw_coefficients
from headlift_trainer.synthetic.source.ict.shapes import IctShapes
from headlift_trainer.synthetic.source.interface import BaseMesh


@dataclass(frozen=True)
class IctHead:
    """One head of ICT's shapes on MakeHuman's mesh."""

    mesh: HeadMesh
    assets: IctHeadAssets
    shapes: IctShapes
    coefficients: Floats  # [MODES] of the identity
    performed: Floats | None = None  # [53] 0..1, where it was asked to perform

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
        """[53] 0..1, ICT's own blendshape weights."""
        return expression_code(self.mesh.person.expression) if self.performed is None else self.performed

    @property
    def landmarks(self) -> Floats:
        """[68, 3] m, the kit's published vertices, carried to this head."""
        return self.shapes.landmarks(self.base_vertices)

    def attributes(self) -> dict[str, object]:
        """What was drawn, as JSON values: those of MakeHuman's heads and ICT's coefficients."""
        return self.mesh.attributes() | {
            "source": "ict",
            "ict_identity": [round(float(value), 3) for value in self.coefficients],
        }

    def perform(self, code: Floats, gaze_deg: tuple[float, float] = (0.0, 0.0)) -> IctHead:
        """This head with another expression: hair, clothes and what else is worn are the same in all performances.

        Args:
            code: [53] 0..1, ICT's own blendshape weights in the order of EXPRESSIONS; 0 is the neutral face.
            gaze_deg: Yaw and pitch of both eyes.
        """
        code = np.asarray(code, np.float32)
        mesh = perform_head(self.seed, self.assets, lambda shape: self.assets.makehuman.perform(shape, code), gaze_deg)
        return replace(self, mesh=mesh, performed=code)

    def dress(self, rng: np.random.Generator) -> Appearance:
        """A new appearance and light."""
        return dress(self.mesh, self.assets, rng)


class IctSource:
    """ICT's identities and expressions. The folder must hold MakeHuman's assets too: its mesh carries them."""

    name = "ict"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._assets = HeadAssets(root)

    @cached_property
    def shapes(self) -> IctShapes:
        """ICT's shapes on MakeHuman's mesh; takes about five seconds, once."""
        return IctShapes(self._root, self._assets.makehuman, self._assets.topology)

    def base_mesh(self) -> BaseMesh:
        """MakeHuman's mean head: the mesh is its, so anchors lie on the same places on heads of both sources."""
        topology = self._assets.topology
        return BaseMesh(topology.mean, topology.triangles)

    def head(self, seed: int) -> IctHead:
        """The head of a seed; the same seed gives the same head."""
        coefficients = draw_coefficients(np.random.default_rng([seed, 53]), self.shapes)
        shared = self._assets
        makehuman = IctMakeHuman(shared.makehuman, shared.topology, self.shapes, coefficients)
        assets = IctHeadAssets(shared, makehuman)
        return IctHead(sample_head(seed, assets), assets, self.shapes, coefficients)
