"""Where heads come from: one interface over MakeHuman's assets, ICT-FaceKit's and our own code.

A source turns a seed into a head, and a head into any number of dressings; `registry` opens them.

Legend: B vertices of a source's own base mesh, V scene vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.render.renderer import Renderer
from headlift_trainer.synthetic.render.scene import Scene


@dataclass(frozen=True)
class BaseMesh:
    """The mesh that all heads of a source share: vertex i is the same place on every one of them."""

    vertices: Floats  # [B, 3] m, the source's mean head in the canonical frame
    triangles: Ints  # [T, 3] of the skin only


class Dressing(Protocol):
    """One appearance of a head: colours, materials and light, ready to be drawn."""

    @property
    def renderer(self) -> Renderer:
        """Draws it from any camera."""
        ...

    @property
    def attributes(self) -> dict[str, object]:
        """What was drawn, as JSON values."""
        ...


class SourceHead(Protocol):
    """One geometry."""

    @property
    def seed(self) -> int:
        """Its number."""
        ...

    @property
    def scene(self) -> Scene:
        """All parts, baked."""
        ...

    @property
    def base_vertices(self) -> Floats:
        """[B, 3] m, the base mesh of this head, expression included."""
        ...

    @property
    def hair_points(self) -> Floats:
        """[20000, 3] m, points on opaque hair, even by area; [0, 3] where there is none."""
        ...

    @property
    def scalp(self) -> Floats:
        """[B] 0..1, how much of the skin is painted in the hair's colour."""
        ...

    @property
    def expression_code(self) -> Floats:
        """[53] 0..1, blendshape weights in ICT-FaceKit's order (ARKit's names)."""
        ...

    @property
    def landmarks(self) -> Floats:
        """[68, 3] m, the iBUG landmarks (person's right jaw first, as in 300-W), expression included."""
        ...

    def attributes(self) -> dict[str, object]:
        """What was drawn, as JSON values."""
        ...

    def dress(self, rng: np.random.Generator) -> Dressing:
        """A new appearance and light."""
        ...


class HeadSource(Protocol):
    """A family of heads."""

    @property
    def name(self) -> str:
        """A key of SEED_RANGES."""
        ...

    def base_mesh(self) -> BaseMesh:
        """What the template's anchors are tracked on."""
        ...

    def head(self, seed: int) -> SourceHead:
        """The head of a seed; the same seed gives the same head."""
        ...
