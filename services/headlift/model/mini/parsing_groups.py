"""What may show what: which parts of a picture an anchor may take its colour from.

A parsed picture says that a pixel is hair, skin or cloth; the template says that an anchor is scalp, jaw or shoulder. A
jaw must not be painted with the collar in front of which a slightly wrong camera puts it.

Legend: N anchors, C groups of classes.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from headlift.model.template import Region


class ParsingGroup(IntEnum):
    """Groups of the 19 classes."""

    BACKGROUND = 0
    SKIN = 1  # face, nose, ears
    FEATURE = 2  # brows, eyes, glasses, lips, mouth
    HAIR = 3  # hair and hats
    NECK = 4  # with necklaces
    CLOTH = 5


# Group of each class of design.md section 4: background, neck, face, cloth, rr, lr, rb, lb, re, le, nose, imouth, llip,
# ulip, hair, eyeg, hat, earr, neck_l.
_GROUPS = (0, 4, 1, 5, 1, 1, 2, 2, 2, 2, 1, 2, 2, 2, 3, 2, 3, 1, 4)

# How well each group explains each region, 0..1. Hair may hang before anything; bald heads show skin at the scalp.
_COMPATIBILITY = {
    Region.FACE: (0.0, 1.0, 1.0, 0.7, 0.5, 0.0),
    Region.EYE: (0.0, 0.6, 1.0, 0.3, 0.0, 0.0),
    Region.MOUTH: (0.0, 1.0, 1.0, 0.3, 0.0, 0.0),
    Region.EAR: (0.0, 1.0, 0.3, 0.7, 0.2, 0.0),
    Region.SCALP: (0.0, 0.6, 0.0, 1.0, 0.1, 0.0),
    Region.HAIR: (0.0, 0.3, 0.0, 1.0, 0.1, 0.2),
    Region.NECK: (0.0, 0.4, 0.0, 0.7, 1.0, 0.8),
    Region.SHOULDERS: (0.0, 0.0, 0.0, 0.8, 0.5, 1.0),
}


def group_probabilities(probabilities: Tensor) -> Tensor:
    """Class probabilities [B, 19, h, w] -> of the groups [B, 6, h, w]."""
    index = torch.tensor(_GROUPS, device=probabilities.device)
    out = probabilities.new_zeros(len(probabilities), len(ParsingGroup), *probabilities.shape[2:])
    return out.index_add(1, index, probabilities)


def region_compatibility(regions: Tensor) -> Tensor:
    """How well each group explains anchors of these regions [N]: [N, 6]."""
    table = torch.tensor([_COMPATIBILITY[Region(i)] for i in range(len(Region))], device=regions.device)
    return table[regions.long()]
