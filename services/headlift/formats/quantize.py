"""Quantisers of the wire codec, on planes: one row an attribute, one column a Gaussian.

Planes keep NumPy's inner loop over Gaussians, which is what makes a head of 65,536 cost milliseconds,
and put like bytes beside each other for zstd.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headlift.formats.cloud import Array

Bytes = NDArray[np.uint8]

_LARGEST = float(np.finfo(np.float32).max)
_HALF_STEPS = 127  # a quaternion component takes 255 levels about 127, so that 0 is exact
_STEP = np.float32(np.sqrt(0.5) / _HALF_STEPS)  # all but the largest component lie within +-sqrt(1/2)


def box_of(planes: Array) -> Array:  # [A, N] -> [2, A]
    """Low and high of every plane."""
    return np.stack([planes.min(1), planes.max(1)])


def quantize_box(planes: Array, box: Array, top: int) -> Array:  # [A, N], [2, A] -> [A, N]
    """Whole numbers 0..top across the box; a flat plane gives 0."""
    size = box[1].astype(np.float64) - box[0]
    # Flatter than this and the factor leaves float32's range; such a plane is flat for every purpose.
    wide = size > top / _LARGEST
    factor = np.where(wide, top / np.where(wide, size, 1.0), 0.0)
    values: Array = planes - box[0][:, None]
    values *= factor.astype(np.float32)[:, None]
    np.rint(values, out=values)
    np.clip(values, 0.0, np.float32(top), out=values)
    return values


def dequantize_box(levels: Array, box: Array, top: int) -> Array:  # [A, N], [2, A] -> [A, N]
    """Values of whole numbers 0..top."""
    step = ((box[1].astype(np.float64) - box[0]) / top).astype(np.float32)
    values: Array = levels * step[:, None] + box[0][:, None]
    return values


def quantize_unit(values: Array) -> Bytes:
    """0..1 in 255 steps; 0 and 1 are exact."""
    return (values * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)


def pack_smallest_three(quats: Array) -> Bytes:  # [4, N] -> [4, N]
    """Index of the largest component, and the other three in their order.

    Quaternions have unit length. q and -q are one rotation, so the sign of the largest is made positive
    and needs no bit.
    """
    size = np.abs(quats)
    front = size[1] > size[0]
    back = size[3] > size[2]
    in_back = np.where(back, size[3], size[2]) > np.where(front, size[1], size[0])
    index = np.where(in_back, back.view(np.uint8) + np.uint8(2), front.view(np.uint8))
    largest = np.where(in_back, np.where(back, quats[3], quats[2]), np.where(front, quats[1], quats[0]))
    factor = np.copysign(np.float32(1.0) / _STEP, largest)
    out = np.empty(quats.shape, np.uint8)
    out[0] = index
    for row in range(3):
        kept = np.where(index > row, quats[row], quats[row + 1])
        kept *= factor
        out[row + 1] = np.clip(np.rint(kept), -_HALF_STEPS, _HALF_STEPS) + _HALF_STEPS
    return out


def unpack_smallest_three(planes: Bytes) -> Array:  # [4, N] -> [4, N] wxyz
    """Quaternions of unit length, the largest component positive."""
    index = planes[0] & 3
    parts = (planes[1:].astype(np.float32) - np.float32(_HALF_STEPS)) * _STEP
    left = np.float32(1.0) - np.einsum("ij,ij->j", parts, parts)
    largest = np.sqrt(np.maximum(left, np.float32(0.0)))
    out = np.empty((4, planes.shape[1]), np.float32)
    out[0] = np.where(index == 0, largest, parts[0])
    out[1] = np.where(index == 1, largest, np.where(index > 1, parts[1], parts[0]))
    out[2] = np.where(index == 2, largest, np.where(index > 2, parts[2], parts[1]))
    out[3] = np.where(index == 3, largest, parts[2])
    return out
