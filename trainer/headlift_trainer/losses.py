"""Losses: on anchors directly, on poses, and on pictures.

Legend: B batch, N anchors, C cameras, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.types import FOCAL


def anchor_loss(means: Tensor, colors: Tensor, target_means: Tensor, target_colors: Tensor, seen: Tensor) -> Tensor:
    """L1 of positions (a centimetre counts like a quarter of the colour range) and of colours.

    Colours that the training pictures saw badly count less.

    Args:
        means, target_means: [B, N, 3] m. colors, target_colors: [B, N, 3] 0..1. seen: [B, N] 0..1.
    """
    position = (means - target_means).abs().mean()
    color = ((colors - target_colors).abs() * (0.2 + 0.8 * seen)[..., None]).mean()
    return 25.0 * position + color


def reprojection_loss(points: Tensor, viewmats: Tensor, target_viewmats: Tensor) -> Tensor:
    """Mean distance, in crop widths, between where two cameras project the same points.

    Args:
        points: [B, N, 3] m. viewmats, target_viewmats: [B, 4, 4] world to camera.
    """

    def project(matrix: Tensor) -> Tensor:
        camera = points @ matrix[:, :3, :3].transpose(1, 2) + matrix[:, None, :3, 3]
        return FOCAL * camera[..., :2] / camera[..., 2:].clamp_min(0.1)

    distance: Tensor = torch.linalg.vector_norm(project(viewmats) - project(target_viewmats), dim=-1)
    return distance.mean()


def picture_loss(rgb: Tensor, alpha: Tensor, target: Tensor, background: Tensor) -> Tensor:
    """L1 over three scales, of gradients, and of the matte, both pictures over the same background.

    Args:
        rgb: [C, 3, H, W] premultiplied. alpha: [C, 1, H, W]. target: [C, 4, H, W] premultiplied RGB and alpha.
        background: [C, 3, 1, 1] 0..1.
    """
    error = (rgb + (1 - alpha) * background) - (target[:, :3] + (1 - target[:, 3:]) * background)
    loss = error.abs().mean()
    loss = loss + 0.7 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    for _ in range(2):
        error = F.avg_pool2d(error, 2)
        loss = loss + 0.5 * error.abs().mean()
    return loss + 0.5 * (alpha - target[:, 3:]).abs().mean()


def psnr(picture: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of pictures [C, 3, H, W] in 0..1, dB, one value a picture."""
    return -10 * torch.log10((picture - target).square().flatten(1).mean(1).clamp_min(1e-10))
