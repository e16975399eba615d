"""Losses: on anchors directly, on poses, and on pictures.

Legend: B batch, N anchors, C cameras, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.mini.headnet import HeadNet
from headlift.model.types import FOCAL
from headlift_trainer.metrics import ssim

_ALLOWED = 0.99  # of the plain picture's squared error is what sharpening may leave
_BROAD = 15  # pixels; what is that wide is no detail


def anchor_loss(
    means: Tensor, colors: Tensor, target_means: Tensor, target_colors: Tensor, visibility: Tensor
) -> Tensor:
    """L1 of positions (a centimetre counts like a quarter of the colour range) and of colours.

    Colours that the training pictures saw badly count less.

    Args:
        means, target_means: [B, N, 3] m. colors, target_colors: [B, N, 3] 0..1. visibility: [B, N] 0..1.
    """
    position = (means - target_means).abs().mean()
    color = ((colors - target_colors).abs() * (0.2 + 0.8 * visibility)[..., None]).mean()
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


def sharpness_loss(sharp: Tensor, plain: Tensor, target: Tensor) -> Tensor:
    """How differently strong the detail is around each place, and how much squared error sharpening has added.

    The first asks for as much detail as the truth has without asking where exactly it lies, which is what a sharpener
    can know. Squared error counts only as far as it exceeds that of the plain picture: it would otherwise ask for blur,
    the best answer to a detail whose place is unknown (Blau and Michaeli, CVPR 2018). What is broad stays as it was: to
    mend colours would pay, in squared error, for detail that is nowhere, a grid on the skin or a ring round the head.

    Args:
        sharp, plain, target: Pictures [C, 3, H, W] in 0..1: sharpened, as rendered, and true.
    """

    def detail(x: Tensor, window: int) -> Tensor:
        high = x - F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)
        return F.avg_pool2d((high.square() + 1e-6).sqrt(), 7, 2)

    def error(x: Tensor) -> Tensor:
        return (x - target).square().flatten(1).mean(1)

    added = F.relu(error(sharp) - error(plain) * _ALLOWED).mean()
    moved = F.avg_pool2d(sharp - plain, _BROAD, 1, _BROAD // 2, count_include_pad=False).square().mean()
    return (
        200 * (added + moved)
        + F.l1_loss(detail(sharp, 3), detail(target, 3))
        + F.l1_loss(detail(sharp, 7), detail(target, 7))
    )


def token_loss(network: HeadNet, pictures: Tensor, target: Tensor, size: int) -> Tensor:
    """1 - cosine between the tokens of pictures [C, 3, H, W] and of the target, mean over places and all layers.

    The paper's loss with our own network in DINOv2's place. Gradients reach `pictures` alone.

    Args:
        network: Frozen. pictures, target: 0..1 on black.
        size: Side that the network looks at, pixels; a multiple of 16.
    """

    def resized(x: Tensor) -> Tensor:
        return x if x.shape[-1] == size else F.interpolate(x, (size, size), mode="bilinear", antialias=True)

    with torch.no_grad():
        wanted = network.layers(resized(target))
    found = network.layers(resized(pictures))
    off = [1 - F.cosine_similarity(a.float(), b.float(), dim=-1).mean() for a, b in zip(found, wanted, strict=True)]
    return torch.stack(off).mean()


def l1(pictures: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of pictures [C, 3, H, W], one value a picture."""
    return (pictures - target).abs().flatten(1).mean(1)


def dissimilarity(pictures: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM of pictures [C, 3, H, W] in 0..1 with at least 11 pixels a side, one value a picture, 0..2."""
    return 1 - ssim(pictures, target)
