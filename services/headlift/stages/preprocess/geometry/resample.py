"""Similarity transforms of pictures and points, with pixel centres at +0.5 and area-correct shrinking."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def similarity(
    source: tuple[float, float], target: tuple[float, float], *, scale: float = 1.0, turn_deg: float = 0.0
) -> F64:
    """The map that takes ``source`` to ``target``, scales by ``scale`` and turns by ``turn_deg``.

    Args:
        source: Point (x, y) of the source, pixels.
        target: Where it goes.
        scale: Target pixels per source pixel.
        turn_deg: Clockwise on the screen (x right, y down).

    Returns:
        [2, 3] float64.
    """
    angle = math.radians(turn_deg)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    return np.column_stack([linear, np.asarray(target) - linear @ np.asarray(source)])


def compose(outer: F64, inner: F64) -> F64:
    """The [2, 3] map that applies ``inner``, then ``outer``."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def invert(matrix: F64) -> F64:
    """The [2, 3] map back."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def apply(matrix: F64, points: npt.ArrayLike) -> F64:
    """Map points [..., 2] by a [2, 3] matrix."""
    return np.asarray(np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2])


def scale_of(matrix: F64) -> float:
    """Target pixels per source pixel of a similarity."""
    return math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))


def visible_part(matrix: F64, size: tuple[int, int], source_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bounds x0, y0, x1, y1 of the source pixels that a warp to ``size`` touches; at least one pixel."""
    corners = apply(invert(matrix), [(0, 0), (size[0], 0), (0, size[1]), size])
    margin = 2 + 2 / scale_of(matrix)
    low, high = np.floor(corners.min(0) - margin), np.ceil(corners.max(0) + margin)
    (x0, x1), (y0, y1) = (
        (int(np.clip(low[i], 0, source_size[i] - 1)), int(np.clip(high[i], 1, source_size[i]))) for i in (0, 1)
    )
    return x0, y0, x1, y1


def warp(pixels: npt.NDArray[Any], matrix: F64, size: tuple[int, int], *, replicate: bool = False) -> npt.NDArray[Any]:
    """Resample a picture by a similarity.

    Only the visible part is touched; where it shrinks, it is first averaged over areas to the target's scale, so
    nothing aliases.

    Args:
        pixels: [H, W] or [H, W, K] uint8 or float32.
        matrix: [2, 3] from source pixels to target pixels.
        size: (width, height) of the result.
        replicate: Continue the picture's border outside of it; zeros otherwise.

    Returns:
        The target, in the source's dtype.
    """
    height, width = pixels.shape[:2]
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    x0, y0, x1, y1 = visible_part(matrix, size, (width, height))
    part = pixels[y0:y1, x0:x1]
    onto_part = np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0]])
    if (scale := scale_of(matrix)) < 0.95:
        w, h = (max(1, math.ceil(side * scale)) for side in part.shape[1::-1])
        onto_part = np.diag([w / part.shape[1], h / part.shape[0]]) @ onto_part
        part = cv2.resize(part, (w, h), interpolation=cv2.INTER_AREA)
    final = compose(matrix, invert(onto_part))
    final[:, 2] += final[:, :2] @ np.array([0.5, 0.5]) - 0.5  # OpenCV puts pixel centres at whole numbers
    flags = cv2.INTER_CUBIC if scale > 1.05 else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(np.ascontiguousarray(part), final, size, flags=flags, borderMode=border))
