"""Where heads come from: one interface over MakeHuman's assets, ICT-FaceKit's and our own code.

A source turns a seed into a head, and a head into any number of dressings. Seeds name the source, so that one folder
holds heads of all of them and one number says which head is meant.

Legend: B vertices of a source's own base mesh, V scene vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from headlift.errors import InvalidInputError, NotFoundError
from headlift_trainer.synthetic.assets import Floats, Ints
from headlift_trainer.synthetic.renderer import Renderer
from headlift_trainer.synthetic.scene import Scene

SEED_RANGES = {"makehuman": range(50_000), "ict": range(50_000, 80_000), "procedural": range(80_000, 100_000)}
SHARES = {"makehuman": 0.60, "ict": 0.25, "procedural": 0.15}  # of heads drawn from all sources
HELD_OUT = frozenset([*range(40), *range(50_000, 50_020), *range(80_000, 80_020)])  # geometry seeds, never trained on


def source_of(seed: int) -> str:
    """The name of the source that a seed belongs to."""
    return next(name for name, seeds in SEED_RANGES.items() if seed in seeds)


def seeds_for(names: Sequence[str], count: int, start: int = 0) -> list[int]:
    """Seeds of `count` heads shared out over sources by SHARES, mixed evenly, so that any first part is mixed as well.

    Args:
        names: Of the sources.
        count: Of all heads together.
        start: First head of each source, counted from the source's first seed.

    Raises:
        InvalidInputError: A source has no seeds there.
    """
    total = sum(SHARES[name] for name in names)
    taken = dict.fromkeys(names, 0)
    seeds = []
    for number in range(1, count + 1):
        name = max(names, key=lambda each: SHARES[each] / total * number - taken[each])
        place = start + taken[name]
        if not 0 <= place < len(SEED_RANGES[name]):
            limit = len(SEED_RANGES[name])
            raise InvalidInputError(f"{name} has no head number {place}; it has 0..{limit - 1}. Ask for fewer.")
        seeds.append(SEED_RANGES[name][place])
        taken[name] += 1
    return seeds


def sources_in(root: Path | None) -> tuple[str, ...]:
    """The sources that an asset folder (None: no folder) allows."""
    if root is None:
        return ("procedural",)
    return tuple(name for name in SHARES if name != "ict" or (root / "ict-facekit").is_dir())


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


class Sources:
    """The sources that an asset folder allows, each opened when first asked for.

    Args:
        root: The asset folder; None leaves the procedural source alone.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._open: dict[str, HeadSource] = {}

    def __getitem__(self, seed: int) -> HeadSource:
        """The source of a seed.

        Raises:
            NotFoundError: It needs an asset folder and there is none, or the folder lacks a file.
        """
        name = source_of(seed)
        if name not in self._open:
            self._open[name] = open_source(name, self._root)
        return self._open[name]


def open_source(name: str, root: Path | None) -> HeadSource:
    """The source of that name; imports are late because each brings its own machinery.

    Raises:
        NotFoundError: It needs an asset folder and `root` is None, or the folder lacks a file.
    """
    if name == "procedural":
        from headlift_trainer.synthetic.procedural import ProceduralSource

        return ProceduralSource()
    if root is None:
        raise NotFoundError(f"The source {name!r} needs an asset folder; name one with --assets, or use 'procedural'.")
    if name == "ict":
        from headlift_trainer.synthetic.ict import IctSource

        return IctSource(root)
    from headlift_trainer.synthetic.makehuman_source import MakeHumanSource

    return MakeHumanSource(root)
