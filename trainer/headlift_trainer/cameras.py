"""Cameras of the portrait crop at given view matrices, and where they see points.

Legend: B pictures, L points.
"""

from __future__ import annotations

from torch import Tensor

from headlift.model.cameras import orbit_camera
from headlift.model.types import FOCAL, Cameras

_NEAR_M = 0.1  # points that are nearer, or behind, are projected as if they were here


def crop_cameras(viewmats: Tensor, size: int) -> Cameras:
    """Cameras of the portrait crop's intrinsics at these view matrices [B, 4, 4], pictures `size` pixels a side."""
    K = orbit_camera(0.0, size=size).Ks.to(viewmats.device)
    return Cameras(viewmats, K.expand(len(viewmats), 3, 3), size, size)


def project_to_crop(points: Tensor, viewmats: Tensor) -> Tensor:
    """Where points [B, L, 3] m lie in portrait crops seen from [B, 4, 4]: [B, L, 2] in 0..1."""
    local = points @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]
    return 0.5 + FOCAL * local[..., :2] / local[..., 2:].clamp_min(_NEAR_M)
