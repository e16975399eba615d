"""What is good and bad about a picture for making a head of it, with reasons that programs can read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.geometry.crop import face_box_in_crop, project_frontal
from headlift.stages.preprocess.geometry.resample import apply, invert, scale_of, similarity, warp
from headlift.stages.preprocess.interfaces import Face

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SMALL_FACE_PX = 48.0
LEAST_FACE_PX = 24.0  # below this there is nothing to reconstruct
_BEHIND_DEG = 105.0  # yaw from which on the eyes are not visible
_PATCH = 128  # side of the face patch that sharpness and exposure are measured on, pixels
_BLURRED = 0.001  # below this details are lost: portraits lie at 0.002 to 0.008, a blur of 1 % of the face at 0.0005
_EDGES = {"top": (0.0, 0.135), "bottom": (0.0, -0.085), "left": (-0.085, 0.02), "right": (0.085, 0.02)}  # m (x, y)


class QualityReason(StrEnum):
    """Why the score is below 1, or what was decided on the way."""

    SEVERAL_FACES = "SEVERAL_FACES"  # the largest was taken
    SMALL_FACE = "SMALL_FACE"
    CUT_OFF = "CUT_OFF"
    BLURRED = "BLURRED"
    TOO_DARK = "TOO_DARK"
    TOO_BRIGHT = "TOO_BRIGHT"
    PROFILE = "PROFILE"
    FROM_BEHIND = "FROM_BEHIND"  # hardly anything of the face is visible
    EYES_NOT_FOUND = "EYES_NOT_FOUND"
    UNCERTAIN_FACE = "UNCERTAIN_FACE"
    UNCERTAIN_MATTE = "UNCERTAIN_MATTE"
    ALPHA_NOT_A_MATTE = "ALPHA_NOT_A_MATTE"  # the picture's alpha left the background in; it was matted as well


_FACTORS = {
    QualityReason.SMALL_FACE: 0.5,
    QualityReason.CUT_OFF: 0.7,
    QualityReason.BLURRED: 0.5,
    QualityReason.TOO_DARK: 0.6,
    QualityReason.TOO_BRIGHT: 0.6,
    QualityReason.PROFILE: 0.6,
    QualityReason.FROM_BEHIND: 0.3,
    QualityReason.EYES_NOT_FOUND: 0.8,
    QualityReason.UNCERTAIN_FACE: 0.7,
    QualityReason.UNCERTAIN_MATTE: 0.7,
}


@dataclass(frozen=True)
class QualityReport:
    """What was measured in the picture."""

    face_count: int
    face_box: tuple[float, float, float, float]  # x0, y0, x1, y1 in upright source pixels
    face_size_px: float  # side of the face box, source pixels
    face_score: float  # 0..1, confidence that it is a face
    sharpness: float  # variance of the Laplacian over that of the face patch, at 128 pixels a side
    exposure: float  # 0..1, median luma of the face
    cut_off: tuple[str, ...]  # top, bottom, left, right of the upright head, where the picture ends too early
    roll_deg: float  # clockwise turn of the head in the source
    matte_confidence: float  # 0..1
    score: float  # 0..1; 1 where there is nothing to complain about
    reasons: tuple[QualityReason, ...]
    notes: tuple[str, ...] = ()  # what decoding ignored or assumed, for people
    models: tuple[str, ...] = ()  # pretrained models that were asked about the portrait


def judge(
    rgb: U8,
    face: Face,
    face_count: int,
    crop_from_picture: F64,
    alpha: F32,
    *,
    picture_from_source: tuple[float, float] = (1.0, 1.0),
    decided: tuple[QualityReason, ...] = (),
    notes: tuple[str, ...] = (),
    models: tuple[str, ...] = (),
) -> QualityReport:
    """Measure the chosen face and its crop.

    Args:
        rgb: [H, W, 3] the decoded picture.
        face: The chosen face, in pixels of ``rgb``.
        face_count: Faces found.
        crop_from_picture: [2, 3] map to the final crop.
        alpha: [S, S] matte of the final crop.
        picture_from_source: Factors (x, y) from source pixels to those of ``rgb``.
        decided: Reasons that arose before.
        notes: Passed through.
        models: Passed through.

    Returns:
        The report, in source pixels.
    """
    size = alpha.shape[-1]
    scale = math.sqrt(picture_from_source[0] * picture_from_source[1])
    patch = _face_patch(rgb, crop_from_picture, size)
    sharpness, exposure = sharpness_of(patch), float(np.median(patch)) / 255.0
    cut_off = _cut_off(crop_from_picture, size, rgb.shape[1], rgb.shape[0])
    confidence = matte_confidence(alpha)
    bright, dark = np.percentile(patch, 20) > 235, np.percentile(patch, 95) < 56
    behind = abs(face.yaw_hint) > _BEHIND_DEG  # dark hair is no dark picture
    conditions = {
        QualityReason.SMALL_FACE: face.size / scale < SMALL_FACE_PX,
        QualityReason.CUT_OFF: bool(cut_off),
        QualityReason.BLURRED: sharpness < _BLURRED,
        QualityReason.TOO_DARK: bool(dark) and not behind,
        QualityReason.TOO_BRIGHT: bool(bright),
        QualityReason.PROFILE: abs(face.yaw_hint) > 40.0 and not behind,
        QualityReason.FROM_BEHIND: behind,
        QualityReason.EYES_NOT_FOUND: face.landmarks is None,
        QualityReason.UNCERTAIN_FACE: face.score < 0.55,
        QualityReason.UNCERTAIN_MATTE: confidence < 0.6,
    }
    reasons = decided + tuple(reason for reason, holds in conditions.items() if holds)
    box = face.scaled(1 / picture_from_source[0], 1 / picture_from_source[1]).box
    roll = -math.degrees(math.atan2(crop_from_picture[1, 0], crop_from_picture[0, 0]))
    return QualityReport(
        face_count=face_count,
        face_box=box,
        face_size_px=face.size / scale,
        face_score=face.score,
        sharpness=sharpness,
        exposure=exposure,
        cut_off=cut_off,
        roll_deg=roll,
        matte_confidence=confidence,
        score=math.prod(_FACTORS.get(reason, 1.0) for reason in reasons),
        reasons=reasons,
        notes=notes,
        models=models,
    )


def sharpness_of(patch: U8) -> float:
    """Variance of the Laplacian relative to the patch's own variance, so that contrast does not count."""
    values = patch.astype(np.float32)
    return float(cv2.Laplacian(values, cv2.CV_32F).var() / (values.var() * 16.0 + 25.0))


def matte_confidence(alpha: F32) -> float:
    """Confidence 0..1 in a matte: the face is in, the upper corners are out, and little is undecided.

    Args:
        alpha: [S, S] matte of a portrait crop.

    Returns:
        The confidence.
    """
    size = alpha.shape[-1]
    x0, y0, x1, y1 = face_box_in_crop(size)
    inset = (x1 - x0) * 0.25
    face = alpha[round(y0 + inset) : round(y1 - inset / 2), round(x0 + inset) : round(x1 - inset)]
    edge = max(1, size // 16)
    corners = (alpha[: 4 * edge, :edge], alpha[: 4 * edge, -edge:])
    undecided = float(((alpha > 0.1) & (alpha < 0.9)).mean()) / max(float((alpha > 0.1).mean()), 1e-3)
    leak = float(np.mean([c.mean() for c in corners]))
    return float(face.mean()) * (1.0 - leak) * max(0.0, 1.0 - 1.5 * undecided)


def _face_patch(rgb: U8, crop_from_picture: F64, size: int) -> U8:
    """[128, 128] grey of the face box, upright."""
    x0, y0, x1, y1 = face_box_in_crop(size)
    middle = apply(invert(crop_from_picture), ((x0 + x1) / 2, (y0 + y1) / 2))
    scale = _PATCH / (x1 - x0) * scale_of(crop_from_picture)
    turn = math.degrees(math.atan2(crop_from_picture[1, 0], crop_from_picture[0, 0]))
    onto = similarity((float(middle[0]), float(middle[1])), (_PATCH / 2, _PATCH / 2), scale=scale, turn_deg=turn)
    return np.asarray(cv2.cvtColor(warp(rgb, onto, (_PATCH, _PATCH), replicate=True), cv2.COLOR_RGB2GRAY), np.uint8)


def _cut_off(crop_from_picture: F64, size: int, width: int, height: int) -> tuple[str, ...]:
    """The sides at which the outline of an average head lies outside of the picture."""
    back = invert(crop_from_picture)
    sides = []
    for side, (x, y) in _EDGES.items():
        px, py = apply(back, project_frontal((x, y, 0.0), size))
        if not (0 <= px <= width and 0 <= py <= height):
            sides.append(side)
    return tuple(sides)
