"""What reconstruction draws its samples from: `Mixture` draws from several data sets by weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch

from headlift.errors import InvalidInputError
from headlift_trainer.datasets.interface import PictureSample


class Source(Protocol):
    """Heads of one data set."""

    name: str

    def __len__(self) -> int:
        """Portraits that can be an input."""
        ...

    def sample(self, generator: torch.Generator, views: int) -> PictureSample:
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

    def sample(self, generator: torch.Generator, views: int) -> PictureSample:
        """From one of the sources."""
        chosen = int(torch.multinomial(self._weights, 1, generator=generator))
        return self._sources[chosen].sample(generator, views)


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
