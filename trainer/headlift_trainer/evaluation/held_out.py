"""The generated heads that nothing was ever trained on, one at a time.

Legend: V views, S picture side.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from headlift.errors import InvalidInputError, NotFoundError
from headlift_trainer.datasets.generated import load_views
from headlift_trainer.evaluation.traits import traits_of
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.source.seeds import HELD_OUT, source_of

T = TypeVar("T")
GENERATED = ("makehuman", "ict", "procedural")  # sources that `make_held_out` generates
APPEARANCES = 8  # at most so many are looked for


@dataclass(frozen=True)
class HeldOutHead:
    """One dressed head, seen from the generator's rig."""

    seed: int
    appearance: int
    pictures: Tensor  # [V, 4, S, S] premultiplied RGB and alpha, 0..1
    viewmats: Tensor  # [V, 4, 4]
    traits: dict[str, str]

    @property
    def name(self) -> str:
        """As in the file's name."""
        return f"{self.seed:05d}_{self.appearance}"


class HeldOutHeads:
    """The held-out heads of a folder of shards, read one by one.

    Raises:
        NotFoundError: The folder holds none of them.
    """

    def __init__(self, folder: Path, seeds: Sequence[int] | None = None, limit: int | None = None) -> None:
        wanted = sorted(HELD_OUT) if seeds is None else seeds
        found = [(s, a) for s in wanted for a in range(APPEARANCES) if path_of(folder, s, a).is_file()]
        if not found:
            raise NotFoundError(
                f"{folder.name}/ holds none of the {len(wanted)} held-out heads ({path_of(folder, wanted[0], 0).name} "
                "and so on); generate them with `headlift synth`, or give --assets to have it done."
            )
        self.folder = folder
        self.entries = _spread(found, limit)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def identities(self) -> int:
        """How many geometries."""
        return len({seed for seed, _ in self.entries})

    @property
    def sources(self) -> dict[str, int]:
        """How many pictures come from each source of heads."""
        return dict(Counter(source_of(seed) for seed, _ in self.entries))

    def __iter__(self) -> Iterator[HeldOutHead]:
        for seed, appearance in self.entries:
            yield self.load(seed, appearance)

    def load(self, seed: int, appearance: int) -> HeldOutHead:
        """One head.

        Raises:
            InvalidInputError: Its file is no shard of the generator.
        """
        path = path_of(self.folder, seed, appearance)
        try:
            views = load_views(self.folder, seed, appearance)
            with np.load(path) as shard:
                text = str(shard["attributes"][0]) if "attributes" in shard.files else "{}"
            attributes = json.loads(text)
        except (KeyError, ValueError, OSError) as error:
            raise InvalidInputError(f"{path.name} cannot be read as a generated head: {error}.") from error
        pictures = torch.from_numpy(views.rgba).permute(0, 3, 1, 2).float() / 255
        traits = {"source": source_of(seed)} | traits_of(attributes)
        return HeldOutHead(seed, appearance, pictures, torch.from_numpy(views.viewmats), traits)


def held_out_seeds(limit: int | None = None, sources: Sequence[str] = GENERATED) -> list[int]:
    """Held-out geometries of these sources, at most ``limit``, evenly over the list."""
    return _spread([seed for seed in sorted(HELD_OUT) if source_of(seed) in sources], limit)


def make_held_out(
    folder: Path,
    assets: Path | None = None,
    limit: int | None = None,
    *,
    size: int = 256,
    workers: int = 1,
    tick: Callable[[int, int], object] = lambda done, total: None,
) -> HeldOutHeads:
    """Generate held-out heads that are not there yet, those that a whole folder would be measured on.

    Args:
        folder: Where they go; made if it is absent.
        assets: Asset folder; None makes the procedural heads alone, which need nothing but this code.
        limit: At most so many heads, evenly over the sources.
        size: Side of a picture, pixels.
        workers: Processes that generate.
        tick: Called with the geometries that are done, and how many there are.

    Raises:
        NotFoundError: The asset folder lacks a file.
        InvalidInputError: The limit is below 1.
    """
    # Imported here: the generator compiles its renderer on import.
    from headlift_trainer.synthetic.generate import APPEARANCES as DRESSED
    from headlift_trainer.synthetic.generate import generate
    from headlift_trainer.synthetic.source.seeds import sources_in

    seeds = held_out_seeds(sources=sources_in(assets))
    wanted = _spread([(seed, row) for seed in seeds for row in range(DRESSED)], limit)
    chosen = list(dict.fromkeys(seed for seed, _ in wanted))
    dressings = 1 + max(row for _, row in wanted)
    tick(0, len(chosen))
    for done, _ in generate(assets, folder, chosen, size, workers, appearances=dressings):
        tick(done, len(chosen))
    return HeldOutHeads(folder, chosen, limit=limit)


def _spread(entries: list[T], limit: int | None) -> list[T]:
    """At most ``limit`` of them, evenly over the list, so that every source has its share."""
    if limit is None or limit >= len(entries):
        return entries
    if limit < 1:
        raise InvalidInputError(f"limit is {limit}; at least one head is needed.", field="limit")
    return [entries[i * len(entries) // limit] for i in range(limit)]
