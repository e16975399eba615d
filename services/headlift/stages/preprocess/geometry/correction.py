"""A better crop from an estimated camera: head in the middle, at the portrait distance, upright."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER, Cameras
from headlift.stages.preprocess.geometry.resample import apply, similarity

F64 = npt.NDArray[np.float64]

MAX_SCALE = 1.6  # a correction beyond these says that the estimate, not the face box, is wrong
MAX_SHIFT = 0.35  # of the crop's side
MAX_TURN = 45.0  # degrees


@dataclass(frozen=True)
class CropCorrection:
    """What has to be done to a crop so that it shows the portrait window."""

    matrix: F64  # [2, 3] from the crop to the corrected crop
    scale: float  # enlargement
    shift: float  # of the head's middle, in crop sides
    turn_deg: float  # clockwise

    @property
    def is_implausible(self) -> bool:
        """Is it so large that the estimate must be wrong?"""
        too_far = self.shift > MAX_SHIFT or abs(self.turn_deg) > MAX_TURN
        return too_far or not 1 / MAX_SCALE <= self.scale <= MAX_SCALE


def correct_crop(camera: Cameras) -> CropCorrection:
    """The similarity that makes the head of ``camera`` fill the portrait window.

    In-plane roll becomes zero, HEAD_CENTER comes to the middle, and its picture gets the size that a focal length of
    FOCAL sides gives at DISTANCE. Yaw and pitch stay: they belong to the portrait.

    Args:
        camera: One estimated camera of a square crop.

    Returns:
        The correction; ``is_implausible`` where the head would lie behind the camera.
    """
    view, intrinsics = camera.viewmats[0].double().cpu().numpy(), camera.Ks[0].double().cpu().numpy()
    size = camera.width
    center = view[:3, :3] @ np.array(HEAD_CENTER) + view[:3, 3]
    if not np.isfinite(center).all() or center[2] < 0.05:
        return CropCorrection(np.eye(2, 3), math.inf, math.inf, 0.0)
    projected = intrinsics @ (center / center[2])
    at = (float(projected[0]), float(projected[1]))
    scale = float(FOCAL * size / DISTANCE / (intrinsics[0, 0] / center[2]))
    up = view[:3, 1]  # where the head's up points in the camera, whose y goes down
    turn = -math.degrees(math.atan2(float(up[0]), float(-up[1])))
    middle = (size / 2, size / 2)
    matrix = similarity(at, middle, scale=scale, turn_deg=turn)
    shift = math.dist(apply(np.eye(2, 3), at), middle) / size
    return CropCorrection(matrix, scale, shift, turn)
