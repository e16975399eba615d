"""Quaternions of Gaussians (wxyz)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def quats_from_normals(normals: Tensor) -> Tensor:
    """The shortest turn that takes +Z to each normal [N, 3], as wxyz [N, 4]: discs lie in the surface."""
    x, y, z = F.normalize(normals, dim=-1).unbind(-1)
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(z)], -1)
    backwards = (z < -1 + 1e-6)[:, None]  # opposite to +Z every half turn is as short; take the one about X
    return F.normalize(torch.where(backwards, quats.new_tensor([0.0, 1, 0, 0]), quats), dim=-1)


def multiply_quats(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of wxyz quaternions [..., 4]: first turn by ``b``, then by ``a``."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.unbind(-1), b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )
