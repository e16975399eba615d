"""The template's graph, as far as refinement needs it.

Legend: N Gaussians, J neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from headlift.errors import InvalidInputError


@dataclass(frozen=True)
class Neighborhood:
    """Who is near whom. What is derived from it is kept: one serves all refinements of a template."""

    neighbors: Tensor  # [N, J] int64, anchors nearby on the surface
    mirror: Tensor  # [N] int64, anchor nearest to the mirror image (-x, y, z)

    def check(self, count: int) -> None:
        """Raise InvalidInputError unless this is a graph on ``count`` Gaussians."""
        for name, value, dims in (("neighbors", self.neighbors, 2), ("mirror", self.mirror, 1)):
            if value.dim() != dims or value.shape[0] != count or value.numel() == 0 or value.dtype != torch.int64:
                raise InvalidInputError(
                    f"{name} is {value.dtype} of shape {tuple(value.shape)}; "
                    f"int64 with one row for each of {count} Gaussians is needed."
                )
            if int(value.min()) < 0 or int(value.max()) >= count:
                raise InvalidInputError(
                    f"{name} spans {int(value.min())}..{int(value.max())}; it must lie in 0..{count - 1}."
                )

    def to(self, device: torch.device) -> Neighborhood:
        """The same graph on a device; itself where it is there."""
        if self.neighbors.device == device and self.mirror.device == device:
            return self
        return Neighborhood(self.neighbors.to(device), self.mirror.to(device))

    @cached_property
    def sources(self) -> tuple[Tensor, Tensor]:
        """The graph backwards: Gaussian i is a neighbour of ``sources[offsets[i]:offsets[i + 1]]``.

        Returns:
            sources [N * J] int64, offsets [N + 1] int64.
        """
        n, j = self.neighbors.shape
        order = torch.argsort(self.neighbors.flatten(), stable=True)
        counts = torch.bincount(self.neighbors.flatten(), minlength=n)
        return order // j, torch.cat([counts.new_zeros(1), counts.cumsum(0)])
