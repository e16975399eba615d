"""The graph backwards names each neighbour once."""

from __future__ import annotations

import torch

from headlift.model.refine import Neighborhood


def test_sources_are_those_that_have_a_gaussian_as_their_neighbor() -> None:
    neighbors = torch.randint(0, 40, (40, 5), generator=torch.Generator().manual_seed(0))
    sources, offsets = Neighborhood(neighbors, torch.arange(40)).sources
    for i in range(40):
        found = sources[offsets[i] : offsets[i + 1]].tolist()
        assert sorted(found) == sorted(s for s in range(40) for n in neighbors[s].tolist() if n == i)
