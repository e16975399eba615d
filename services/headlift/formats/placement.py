"""Gaussians moved by the transforms that scene formats (glTF, USD) put over them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats.cloud import Cloud, unit_quats

_TOLERANCE = 1e-4  # how far a transform may be from rotation and one scale


def placed(cloud: Cloud, matrix: NDArray[np.float64], what: str) -> Cloud:
    """The cloud moved by a matrix [4, 4] of rotation, translation and one scale.

    Args:
        cloud: Gaussians, not yet judged.
        matrix: Of columns: it stands before a point.
        what: Whose matrix it is, for the message.

    Raises:
        FormatError: It mirrors, shears or stretches, or something in it or in the rotations is not finite.
    """
    if np.array_equal(matrix, np.eye(4)):
        return cloud
    if not np.isfinite(cloud.quats).all() or not np.isfinite(matrix).all():
        raise FormatError(f"Rotations, or the transform of {what}, are not finite; filter those Gaussians out first.")
    linear = matrix[:3, :3]
    if linear[0, 0] > 0 and np.array_equal(linear, linear[0, 0] * np.eye(3)):  # as in our own files: nothing turns
        with np.errstate(all="ignore"):
            means = (cloud.means * linear[0, 0] + matrix[:3, 3]).astype(np.float32)
            scales = (cloud.scales * linear[0, 0]).astype(np.float32)
        return replace(cloud, means=means, scales=scales)
    from scipy.spatial.transform import Rotation  # here: servers start without scipy

    with np.errstate(all="ignore"):  # what overflows here is refused, below or in to_gaussians
        scale = float(np.cbrt(np.linalg.det(linear)))
        error = float(np.abs(linear.T @ linear - scale**2 * np.eye(3)).max())
        if not 1e-6 < scale < 1e6 or not error <= _TOLERANCE * scale**2:
            raise FormatError(
                f"The transform of {what} mirrors, shears or stretches its splats; apply it before the export."
            )
        turn = Rotation.from_matrix(linear / scale)
        xyzw = unit_quats(cloud.quats)[:, [1, 2, 3, 0]]
        return Cloud(
            means=(cloud.means @ linear.T + matrix[:3, 3]).astype(np.float32),
            quats=(turn * Rotation.from_quat(xyzw)).as_quat()[:, [3, 0, 1, 2]].astype(np.float32),
            scales=cloud.scales * np.float32(scale),
            opacities=cloud.opacities,
            colors=cloud.colors,
        )
