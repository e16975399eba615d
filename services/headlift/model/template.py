"""The template: 65,536 anchors on a neutral head, in 4096 patches of 16 (paper section 3.2).

Rows ``16 * q`` to ``16 * q + 15`` are patch q. A checkpoint carries its template; the trainer makes them
(`headlift_trainer.template`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from headlift.model.types import _Tensors

PATCHES, PATCH_SIZE = 4096, 16
ANCHORS = PATCHES * PATCH_SIZE  # 65,536 = 256 x 256


class Region(IntEnum):
    """Part of the head that an anchor belongs to."""

    FACE = 0
    EYE = 1
    MOUTH = 2
    EAR = 3
    SCALP = 4
    HAIR = 5
    NECK = 6
    SHOULDERS = 7


@dataclass(frozen=True)
class Template(_Tensors):
    """Anchors of the Gaussians on a neutral head, canonical frame; N = 65,536."""

    anchors: Tensor  # [N, 3] m; row 16 q + j is Gaussian j of patch q
    normals: Tensor  # [N, 3] unit, outward
    spacing: Tensor  # [N] m, mean distance to the 6 nearest anchors
    neighbors: Tensor  # [N, 8] int64, nearest anchors on the same side of the surface, nearest first
    mirror: Tensor  # [N] int64, anchor nearest to the mirror image (-x, y, z)
    regions: Tensor  # [N] uint8, Region
    name: str
    sha256: str  # of the anchors, rounded to 1e-6 m

    def __len__(self) -> int:
        return self.anchors.shape[0]
