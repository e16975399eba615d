"""No holes: Gaussians at least wide enough to overlap their neighbours.

Through a gap in the face one sees the inside of the back of the head: dark specks, the more of them the closer one
looks. Ours, and for finished heads: a decoder trained with it in the loop collapsed, at a rate that is fine without.

Legend: N Gaussians.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headlift.model.types import Gaussians

_NEAREST = 6  # neighbours that surround a Gaussian


@torch.no_grad()
def closed(head: Gaussians, neighbors: Tensor, least: float) -> Gaussians:
    """The head with discs of at least ``least`` times the distance to their neighbours; thicknesses stay.

    Args:
        head: N Gaussians.
        neighbors: [N, 8] int64, those of the template.
        least: Smallest scale along the two larger axes, over the mean distance to the six nearest neighbours.
    """
    apart = (head.means[neighbors] - head.means[:, None]).norm(dim=-1)
    spacing = apart.topk(_NEAREST, dim=1, largest=False).values.mean(1, keepdim=True)
    values, axes = head.scales.topk(2, dim=1)
    return replace(head, scales=head.scales.scatter(1, axes, torch.maximum(values, least * spacing)))
