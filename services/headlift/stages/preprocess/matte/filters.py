"""Edge-aware filters on pictures and mattes, made of box filters so that cost does not depend on radius."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


def box_mean(values: F32, radius: int) -> F32:
    """Mean over (2 radius + 1) squared windows, border reflected."""
    return np.asarray(cv2.blur(values, (2 * radius + 1, 2 * radius + 1)), np.float32)


def guided_filter(guide: F32, values: F32, radius: int, epsilon: float) -> F32:
    """Smooth ``values`` along the structures of ``guide`` (He, Sun, Tang: Guided Image Filtering, equations 5-8).

    Args:
        guide: [H, W] 0..1.
        values: [H, W].
        radius: Half a window's side, pixels.
        epsilon: Variance of the guide below which it counts as flat.

    Returns:
        [H, W].
    """
    mean_guide, mean_values = box_mean(guide, radius), box_mean(values, radius)
    covariance = box_mean(guide * values, radius) - mean_guide * mean_values
    variance = box_mean(guide * guide, radius) - mean_guide * mean_guide
    slope = np.asarray(covariance / (variance + epsilon), np.float32)
    offset = np.asarray(mean_values - slope * mean_guide, np.float32)
    return np.asarray(box_mean(slope, radius) * guide + box_mean(offset, radius), np.float32)


def spread(colours: F32, known: F32, radius: int) -> F32:
    """Continue colours from where they are known into the rest: blurs normalised by weight, wider where needed.

    Args:
        colours: [H, W, 3].
        known: [H, W] weights, 0 where the colour is to be made up.
        radius: Half the side of the narrowest window, pixels.

    Returns:
        [H, W, 3]; the known colours' overall mean where nothing is near.
    """
    weighted = colours * known[..., None]
    total = np.maximum(float(known.sum()), 1e-6)
    result = np.broadcast_to(weighted.sum((0, 1)) / total, colours.shape).astype(np.float32)
    for reach in (4 * radius, radius):
        weight = box_mean(known, reach)[..., None]
        share = np.minimum(weight * 50.0, 1.0)
        near = box_mean(weighted, reach) / np.maximum(weight, 1e-6)
        result = share * near + (1.0 - share) * result
    return np.asarray(result, np.float32)


def decontaminate(rgb: F32, alpha: F32, radius: int) -> F32:
    """The person's own colours at a soft edge, without the background's share.

    Args:
        rgb: [H, W, 3] 0..1 as photographed.
        alpha: [H, W] 0..1.
        radius: Reach of the edge, pixels.

    Returns:
        [H, W, 3] 0..1; equal to ``rgb`` where alpha is 1.
    """
    solid = np.clip((alpha - 0.9) * 10.0, 0.0, 1.0).astype(np.float32)
    inner = spread(rgb, solid, radius)
    # near opaque the photograph is right, near transparent the interior's continuation is
    keep = np.clip(alpha, 0.0, 1.0)[..., None] ** 2
    return np.asarray(np.where(solid[..., None] >= 1.0, rgb, keep * rgb + (1.0 - keep) * inner), np.float32)
