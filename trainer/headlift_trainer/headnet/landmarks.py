"""Which template anchors serve as landmarks: spread over face, eyes, mouth, ears, neck and hair, in mirrored pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.model.template import Region, Template

# Share of the landmarks and their weight in distance, by region: dense where people look, sparse on the hair.
SHARES = {
    Region.FACE: 0.46,
    Region.EYE: 0.10,
    Region.MOUTH: 0.12,
    Region.EAR: 0.06,
    Region.NECK: 0.06,
    Region.SHOULDERS: 0.04,
    Region.SCALP: 0.12,
    Region.HAIR: 0.04,
}


def landmark_rows(template: Template, count: int = 160) -> Tensor:
    """Rows of `count` anchors (even): the first half on the left side, then their mirror images in the same order.

    Within a region they are as far apart as can be (farthest point sampling), so the rows depend on the template alone.
    """
    half = count // 2
    left = torch.arange(len(template)) < len(template) // 2  # row i + N/2 is the mirror image of row i
    wanted = {region: round(share * half) for region, share in SHARES.items()}
    wanted[Region.FACE] += half - sum(wanted.values())
    rows = [
        _farthest(template.anchors, torch.nonzero(left & (template.regions == int(region)))[:, 0], number)
        for region, number in wanted.items()
    ]
    chosen = torch.cat(rows)
    return torch.cat([chosen, template.mirror[chosen]])


def _farthest(points: Tensor, rows: Tensor, count: int) -> Tensor:
    """`count` of `rows`, each as far as possible from those before."""
    candidates = points[rows]
    first = int((candidates - candidates.mean(0)).norm(dim=1).argmin())
    chosen, distance = [first], torch.full((len(rows),), torch.inf)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (candidates - candidates[chosen[-1]]).norm(dim=1))
        chosen.append(int(distance.argmax()))
    return rows[torch.tensor(chosen)]
