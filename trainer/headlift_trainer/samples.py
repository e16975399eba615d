"""What reconstruction learns from: one portrait, and pictures of the same head from known cameras.

Any data set takes part by being a `Source`; `Mixture` draws from several by weight.

Legend: C target views, S input side, H W target size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.types import Cameras
from headlift_trainer.datasets.synthetic import load_views
from headlift_trainer.step import crop_cameras
from headlift_trainer.synthetic.source.seeds import HELD_OUT

_SHARD = re.compile(r"head_(\d+)_(\d+)\.npz")
_SHARDS_IN_MEMORY = 256
_BACK = -0.2  # an input view shows the face where minus its forward axis, along the face's, is over this


@dataclass(frozen=True)
class Sample:
    """One head."""

    picture: Tensor  # [4, S, S] premultiplied RGB and alpha, 0..1
    camera: Cameras  # C = 1, the picture's
    targets: Tensor  # [C, 4, H, W] premultiplied RGB and alpha; the first is the input's own view
    target_cameras: Cameras


class Source(Protocol):
    """Heads of one data set."""

    name: str

    def __len__(self) -> int:
        """Portraits that can be an input."""
        ...

    def sample(self, generator: torch.Generator, views: int) -> Sample:
        """A random portrait with up to `views` further views; every random choice comes from the generator."""
        ...


class Mixture:
    """Several sources, each drawn with its own probability.

    Raises:
        InvalidInputError: No source, an empty one, or a weight that is not over 0.
    """

    name = "mixture"

    def __init__(self, sources: Iterable[tuple[Source, float]]) -> None:
        pairs = list(sources)
        if not pairs or min(weight for _, weight in pairs) <= 0:
            raise InvalidInputError("A mixture needs at least one data set, each with a weight over 0.")
        self._sources = [source for source, _ in pairs]
        self._weights = torch.tensor([float(weight) for _, weight in pairs])
        for source in self._sources:
            if not len(source):
                raise InvalidInputError(f"The data set {source.name} is empty; check it with `headlift data check`.")

    def __len__(self) -> int:
        return sum(len(source) for source in self._sources)

    def sample(self, generator: torch.Generator, views: int) -> Sample:
        """From one of the sources."""
        chosen = int(torch.multinomial(self._weights, 1, generator=generator))
        return self._sources[chosen].sample(generator, views)


class GeneratedHeads:
    """Shards of the head generator, read when they are needed; the newest stay in memory.

    Args:
        folder: What `headlift synth` wrote.
        seeds: Which to take; None takes all but the held-out ones.

    Raises:
        InvalidInputError: There is no shard of these seeds.
    """

    name = "generated"

    def __init__(self, folder: Path, seeds: Iterable[int] | None = None) -> None:
        found = [(int(m[1]), int(m[2])) for p in folder.glob("head_*.npz") if (m := _SHARD.fullmatch(p.name))]
        wanted = {seed for seed, _ in found} - HELD_OUT if seeds is None else set(seeds)
        self._heads = sorted(head for head in found if head[0] in wanted)
        if not self._heads:
            raise InvalidInputError(f"No generated head was found in {folder.name}; run `headlift synth` first.")
        self._load = lru_cache(_SHARDS_IN_MEMORY)(partial(load_views, folder))

    def __len__(self) -> int:
        return len(self._heads)

    def sample(self, generator: torch.Generator, views: int) -> Sample:
        """A head, from a side that shows something of the face, with other views of it."""
        row = int(torch.randint(len(self._heads), (1,), generator=generator))
        head = self._load(*self._heads[row])
        viewmats, cameras = torch.from_numpy(head.viewmats), head.cameras
        facing = -viewmats[:, 2, 2] > _BACK
        chosen = int(torch.multinomial(facing.float(), 1, generator=generator))
        others = torch.randperm(len(viewmats), generator=generator)
        rows = torch.cat([torch.tensor([chosen]), others[others != chosen][:views]])
        targets = torch.from_numpy(head.rgba)[rows].permute(0, 3, 1, 2).float() / 255
        given = crop_cameras(viewmats[rows[:1]], cameras.width)
        return Sample(
            targets[0], given, targets, replace(cameras, viewmats=cameras.viewmats[rows], Ks=cameras.Ks[rows])
        )


def mixture_of(wanted: Mapping[str, float], found: Mapping[str, Source], *, partial: bool = False) -> Mixture:
    """The sources that a recipe names, with its weights.

    Args:
        wanted: Weight by the name of a data set.
        found: The data sets that there are. "generated" is what our own generator made.
        partial: Go without those that are missing; generated heads, if given, take their share.

    Raises:
        InvalidInputError: One is missing and `partial` is off, or none is left.
    """
    missing = [name for name in wanted if name not in found]
    if missing and not partial:
        raise InvalidInputError(
            f"This recipe needs {', '.join(missing)}: give --data {missing[0]}=DIR, or --partial to go without, with "
            "--data generated=DIR in their place."
        )
    weights = {name: weight for name, weight in wanted.items() if name in found}
    if missing and "generated" in found:
        weights["generated"] = weights.get("generated", 0.0) + sum(wanted[name] for name in missing)
    return Mixture((found[name], weight) for name, weight in weights.items())
