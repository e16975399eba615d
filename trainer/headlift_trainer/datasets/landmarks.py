"""Landmarks of published markups, the same places on the template, and the camera that agrees with them.

Only points that are the same place of the head from every side are used: corners of eyes and mouth, the nose. Contours
(jaw, lids, outline of the nose wings) slide over the head as it turns.

Legend: L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from headlift.errors import InvalidInputError
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift_trainer.datasets.interface import F64

# Row of the 68-point (iBUG) markup -> place on the neutral template, m; +X is the head's own left, on the right in a
# front view. Read off the built-in head, whose features lie where FLAME's neutral head has them.
IBUG_PLACES: dict[int, tuple[float, float, float]] = {
    27: (0.0, 0.028, 0.0711),  # root of the nose
    28: (0.0, 0.0125, 0.0768),
    29: (0.0, -0.001, 0.0842),
    30: (0.0, -0.015, 0.0898),  # tip
    33: (0.0, -0.030, 0.0750),  # below the tip
    36: (-0.046, 0.028, 0.0500),  # right eye, outer corner
    39: (-0.0165, 0.026, 0.0545),  # inner
    42: (0.0165, 0.026, 0.0545),
    45: (0.046, 0.028, 0.0500),
    48: (-0.0255, -0.0455, 0.0580),  # corners of the mouth
    54: (0.0255, -0.0455, 0.0580),
    51: (0.0, -0.0405, 0.0728),  # middle of the upper lip's edge
    57: (0.0, -0.0550, 0.0718),  # and of the lower one's
}
# The five points of face detectors: pupils, tip of the nose, corners of the mouth; the picture's left first.
FIVE_PLACES: tuple[tuple[float, float, float], ...] = (
    (-0.0315, 0.028, 0.0540),
    (0.0315, 0.028, 0.0540),
    (0.0, -0.015, 0.0898),
    (-0.0255, -0.0455, 0.0580),
    (0.0255, -0.0455, 0.0580),
)
_PITCH_SPREAD, _ROLL_SPREAD = 20.0, 30.0  # degrees, priors of portraits
_SPREAD = 0.004  # m, how far a person's features lie from the template's
_STARTS_DEG = (0.0, -45.0, 45.0)  # yaw


@dataclass(frozen=True)
class FittedCamera:
    """The camera of a single picture."""

    viewmat: F64  # [4, 4], at DISTANCE from HEAD_CENTER
    K: F64  # [3, 3] pixels; the optical axis meets HEAD_CENTER
    rms_m: float  # how far the landmarks are off, at the head


def places_of(points: F64) -> tuple[F64, F64]:
    """The usable landmarks [n, 2] of a 68- or 5-point markup [L, 2], and their places on the template [n, 3].

    Raises:
        InvalidInputError: Another markup.
    """
    if len(points) == 68:
        rows = list(IBUG_PLACES)
        return points[rows], np.array([IBUG_PLACES[row] for row in rows])
    if len(points) == len(FIVE_PLACES):
        return points, np.array(FIVE_PLACES)
    raise InvalidInputError(f"A markup of {len(points)} landmarks is not known; 68 (iBUG) and 5 are.")


def fit_camera(points: F64, places: F64, spread: F64 | None = None) -> FittedCamera:
    """The camera of a picture from landmarks, for a head at the portrait crop's distance.

    A single picture does not tell the distance from the focal length; DISTANCE is taken, as the portrait crop does.

    Args:
        points: [L, 2] pixels; rows that are not finite are left out.
        places: [L, 3] m, the same places in the head frame.
        spread: [L] expected errors of the points, pixels; None counts only on people's features being different.

    Raises:
        InvalidInputError: Fewer than four landmarks, or all in one point.
    """
    seen = np.isfinite(points).all(1) & (np.isfinite(spread) if spread is not None else True)
    points, places = points[seen], places[seen]
    if len(points) < 4 or np.ptp(points, axis=0).max() < 1:
        raise InvalidInputError(f"A camera needs 4 landmarks or more in different places; {len(points)} were found.")
    errors = np.zeros(len(points)) if spread is None else spread[seen]
    density = np.linalg.norm(points - points.mean(0)) / np.linalg.norm(places[:, :2] - places[:, :2].mean(0))  # px / m

    def residuals(values: F64) -> F64:
        rotation, scale = _rotation(values[:3]), density * np.exp(values[3])
        off = _projected(places, rotation, scale, values[4:] * 100) - points
        sigma = np.sqrt((_SPREAD * scale) ** 2 + errors**2)[:, None]
        prior = np.rad2deg(values[1:3]) / np.array([_PITCH_SPREAD, _ROLL_SPREAD])
        return np.concatenate([(off / sigma).ravel(), prior])

    fits = []
    for yaw in _STARTS_DEG:
        start = np.array([np.deg2rad(yaw), 0.0, _roll_of(points, places), 0.0, *(points.mean(0) / 100)])
        fits.append(least_squares(residuals, start, loss="cauchy", max_nfev=100))
    best = min(fits, key=lambda fit: float(fit.cost)).x
    rotation, scale = _rotation(best[:3]), density * np.exp(best[3])
    off = np.linalg.norm(_projected(places, rotation, scale, best[4:] * 100) - points, axis=1)
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = np.array([0, 0, DISTANCE]) - rotation @ np.array(HEAD_CENTER)
    K = np.array([[scale * DISTANCE, 0, best[4] * 100], [0, scale * DISTANCE, best[5] * 100], [0, 0, 1.0]])
    return FittedCamera(viewmat, K, float(np.sqrt((off**2).mean()) / scale))


def crop_scale(K: F64) -> float:
    """Side of the portrait crop's window, pixels of the picture, for a camera at DISTANCE."""
    return float(K[0, 0] / FOCAL)


def _rotation(angles: F64) -> F64:
    """Head frame to camera: yaw, pitch and roll (radians) of a camera that stands in front of the head at zero."""
    turn = Rotation.from_euler("ZXY", [angles[2], angles[1], -angles[0]]).as_matrix()
    return np.asarray(np.diag([1.0, -1.0, -1.0]) @ turn)


def _projected(places: F64, rotation: F64, scale: F64 | float, center: F64) -> F64:
    """Pixels [L, 2] of places, `scale` pixels a metre at DISTANCE, HEAD_CENTER at `center`."""
    turned = (places - np.array(HEAD_CENTER)) @ rotation.T
    return np.asarray(center + scale * turned[:, :2] * DISTANCE / (turned[:, 2:] + DISTANCE))


def _roll_of(points: F64, places: F64) -> float:
    """Turn about the optical axis that brings the template's up to the picture's, as a first guess, radians."""
    flat = places[:, :2] * np.array([1.0, -1.0])
    a, b = flat - flat.mean(0), points - points.mean(0)
    angle = np.arctan2((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum())
    return float(-angle)
