"""No holes: discs that overlap, and in the face a wide disc under the skin for every few fine ones upon it.

Through a gap in the face one sees the inside of the back of the head: dark specks, the more of them the closer one
looks. Hair and clothes lose nothing by discs that are wide enough to overlap their neighbours; an iris drowns in them.
So in the face every fourth Gaussian gives its detail up: it sinks below the surface and grows until it lies under the
gaps of its neighbours, which then show the colour of the skin. Ours, and for finished heads: a decoder trained with
wider discs in the loop collapsed, at a rate that is fine without.

Legend: N Gaussians.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headlift.model.types import Gaussians

_EVERY = 4  # how many-th Gaussian lies beneath; divides half of every template, so mirror images do alike
_SUNK = 0.003  # m; less lets it blur what is in front, for splats are sorted by their middles
_OPAQUE = 0.95
_BENEATH, _UPON = 1.5, 0.5  # widths of discs in the face, as shares of those elsewhere
_NEAREST = 6  # neighbours that surround a Gaussian


@torch.no_grad()
def closed(head: Gaussians, neighbors: Tensor, normals: Tensor, face: Tensor, least: float) -> Gaussians:
    """The head with discs of at least ``least`` times the distance to their neighbours; thicknesses stay.

    In the face, every fourth is half as wide again and lies beneath the others, which may be half as wide.

    Args:
        head: N Gaussians.
        neighbors: [N, 8] int64, those of the template. normals: [N, 3], outwards. face: [N] bool, what has detail.
        least: Smallest scale along the two larger axes, over the mean distance to the six nearest neighbours.
    """
    apart = (head.means[neighbors] - head.means[:, None]).norm(dim=-1)
    spacing = apart.topk(_NEAREST, dim=1, largest=False).values.mean(1, keepdim=True)
    beneath = face & (torch.arange(len(face), device=face.device) % _EVERY == 0)
    share = torch.where(beneath, _BENEATH, torch.where(face, _UPON, 1.0))
    values, axes = head.scales.topk(2, dim=1)
    return replace(
        head,
        means=head.means - _SUNK * normals * beneath[:, None],
        scales=head.scales.scatter(1, axes, torch.maximum(values, least * share[:, None] * spacing)),
        opacities=torch.where(beneath, head.opacities.clamp_min(_OPAQUE), head.opacities),
    )
