"""Which head a seed means. Seeds name the source, so that one folder holds heads of all sources and one number says
which head is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headlift.errors import InvalidInputError

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
