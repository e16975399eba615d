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


SURE = 0.9  # alpha from which a pixel is all the person's own, and probability from which it is surely of a group

# Group of each class of design.md section 4: background, neck, face, cloth, rr, lr, rb, lb, re, le, nose, imouth, llip,
# ulip, hair, eyeg, hat, earr, neck_l.
_GROUPS = (0, 4, 1, 5, 1, 1, 2, 2, 2, 2, 1, 2, 2, 2, 3, 2, 3, 1, 4)

# What each region shows, and what it may show instead: that counts half. Hair may hang before anything; bald heads show
# skin at the scalp.
_SHOWS = {
    Region.FACE: ({ParsingGroup.SKIN, ParsingGroup.FEATURE}, {ParsingGroup.HAIR, ParsingGroup.NECK}),
    Region.EYE: ({ParsingGroup.FEATURE}, {ParsingGroup.SKIN, ParsingGroup.HAIR}),
    Region.MOUTH: ({ParsingGroup.SKIN, ParsingGroup.FEATURE}, {ParsingGroup.HAIR}),
    Region.EAR: ({ParsingGroup.SKIN}, {ParsingGroup.FEATURE, ParsingGroup.HAIR}),
    Region.SCALP: ({ParsingGroup.HAIR}, {ParsingGroup.SKIN}),
    Region.HAIR: ({ParsingGroup.HAIR}, {ParsingGroup.SKIN}),
    Region.NECK: ({ParsingGroup.NECK, ParsingGroup.CLOTH}, {ParsingGroup.SKIN, ParsingGroup.HAIR}),
    Region.SHOULDERS: ({ParsingGroup.HAIR, ParsingGroup.CLOTH}, {ParsingGroup.NECK}),
}


def group_probabilities(probabilities: Tensor) -> Tensor:
    """Class probabilities [B, 19, h, w] -> of the groups [B, 6, h, w]."""
    index = torch.tensor(_GROUPS, device=probabilities.device)
    out = probabilities.new_zeros(len(probabilities), len(ParsingGroup), *probabilities.shape[2:])
    return out.index_add(1, index, probabilities)


def region_compatibility(regions: Tensor) -> Tensor:
    """How well each group explains anchors of these regions [N], 0, 1/2 or 1: [N, 6]."""
    shows = [_SHOWS[Region(i)] for i in range(len(Region))]
    table = [[(group in own) + 0.5 * (group in other) for group in ParsingGroup] for own, other in shows]
    return torch.tensor(table, device=regions.device)[regions.long()]
