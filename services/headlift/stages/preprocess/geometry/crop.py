"""The portrait crop: where a face has to lie in it, and the similarity that brings it there.

The crop is what the camera of ``types.py`` sees: FOCAL picture widths at DISTANCE from HEAD_CENTER, a window of
0.40 m. A frontal neutral head then has its eyes at ``EYES_IN_CROP``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift.stages.preprocess.geometry.resample import apply, invert, scale_of, similarity
from headlift.stages.preprocess.interfaces import Face

F64 = npt.NDArray[np.float64]

EYE = (0.0315, 0.028, 0.042)  # m, centre of the left eyeball of the canonical head; the right one mirrors it
BOX_SIDE = 0.164  # m, side of Face.box on the canonical head
BOX_CENTER = (0.0, 0.0116, 0.042)  # m, its middle: the eyes lie at 40 % of its height
_EYE_GAP_IN_BOX = 2 * EYE[0] / BOX_SIDE
_TURN_DEPTH = 0.045  # m that the visible face stands before the axis about which a head turns
_MAX_EYE_TRUST = 0.6  # share of the eyes in the scale; the box has the rest, for eyes shrink when a head turns


def project_frontal(point: tuple[float, float, float], size: float = 1.0) -> tuple[float, float]:
    """Where the portrait camera at yaw 0 sees a point of the canonical head.

    Args:
        point: (x, y, z) m.
        size: Side of the crop; 1 gives fractions.

    Returns:
        (x, y) in the crop.
    """
    scale = FOCAL / (DISTANCE - (point[2] - HEAD_CENTER[2])) * size
    return 0.5 * size + (point[0] - HEAD_CENTER[0]) * scale, 0.5 * size - (point[1] - HEAD_CENTER[1]) * scale


EYES_IN_CROP = (project_frontal((-EYE[0], EYE[1], EYE[2])), project_frontal(EYE))  # fractions, left of picture first


def face_box_in_crop(size: float) -> tuple[float, float, float, float]:
    """``Face.box`` of a frontal canonical head in a crop of side ``size``, pixels."""
    x, y = project_frontal(BOX_CENTER, size)
    half = BOX_SIDE / 2 * FOCAL / (DISTANCE - BOX_CENTER[2]) * size
    return x - half, y - half, x + half, y + half


def crop_from_face(face: Face, size: int) -> F64:
    """The similarity from picture pixels to the portrait crop.

    Size comes from the box and, where eyes are known, also from their distance; place and roll from the eyes alone
    then, because they are measured better. A face that brings its own ``frame`` is cropped by that.

    Args:
        face: The face, in picture pixels.
        size: Side of the crop, pixels.

    Returns:
        [2, 3] float64.
    """
    if face.frame is not None:
        return np.diag([size, size]) @ face.frame
    pixels_per_m = face.size / BOX_SIDE
    roll = face.roll_deg
    anchor, target = np.array(face.center), project_frontal(BOX_CENTER, size)
    if face.landmarks is not None and np.isfinite(face.landmarks[:2]).all():
        left, right = face.landmarks[:2]
        gap = float(np.linalg.norm(right - left))
        ratio = gap / (_EYE_GAP_IN_BOX * face.size)
        pixels_per_m *= max(0.8, min(1.25, ratio)) ** _MAX_EYE_TRUST
        roll = math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))
        anchor, target = (left + right) / 2, project_frontal((0.0, EYE[1], EYE[2]), size)
    sideways = -_TURN_DEPTH * math.sin(math.radians(face.yaw_hint)) * pixels_per_m
    angle = math.radians(roll)
    anchor = anchor + sideways * np.array([math.cos(angle), math.sin(angle)])
    scale = FOCAL / (DISTANCE - EYE[2]) * size / pixels_per_m
    return similarity((float(anchor[0]), float(anchor[1])), target, scale=scale, turn_deg=-roll)


def face_in_frame(
    frame: F64,  # [2, 3] from picture pixels to the portrait crop of side 1
    *,
    score: float,
    landmarks: F64 | None = None,
    yaw_deg: float = 0.0,
) -> Face:
    """The face whose portrait crop is known: the inverse of ``crop_from_face``, in picture pixels."""
    pixels_per_m = FOCAL / (DISTANCE - EYE[2]) / scale_of(frame)
    roll = -math.degrees(math.atan2(frame[1, 0], frame[0, 0]))
    along = np.array([math.cos(math.radians(roll)), math.sin(math.radians(roll))])
    middle = apply(invert(frame), project_frontal(BOX_CENTER))
    x, y = middle + _TURN_DEPTH * math.sin(math.radians(yaw_deg)) * pixels_per_m * along
    half = BOX_SIDE / 2 * pixels_per_m
    return Face((x - half, y - half, x + half, y + half), score, landmarks, roll, yaw_deg, frame)
