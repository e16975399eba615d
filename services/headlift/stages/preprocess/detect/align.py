"""From a rough hit to an aligned face: box, roll, eyes and evidence, measured on an upright patch.

Cascades tolerate about 15 degrees of roll and jitter by some percent; on a patch turned and sized by the current
guess they are repeatable, so a few rounds make the result nearly independent of how the picture was turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.detect.cascades import FRONTAL, find_squares
from headlift.stages.preprocess.geometry.resample import apply, invert, similarity, warp

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

PATCH = 224  # side of the patch, pixels
BOX = 128.0  # side of the face box inside it
# (cascade, its bias along x and y in its own box sides) for the eye at the left and the one at the right; the biases
# were measured on portraits. The splits cascade finds nearly every eye, the plain one places it better.
_EYE_CASCADES = (
    (("righteye_2splits", 0.05, 0.165), ("eye", 0.0, 0.0)),
    (("lefteye_2splits", -0.05, 0.165), ("eye", 0.0, 0.0)),
)
_EYE_COLUMNS = ((36, 118), (106, 188))  # where each eye is sought in the patch
_EYE_ROWS = (52, 136)
_AGREE = 7.0  # pixels; a plain hit further from the splits hit is a brow or a lid corner
_MAX_EYE_TURN = 25.0  # degrees; steeper pairs are not eyes


@dataclass(frozen=True)
class Hit:
    """A square that may hold a face."""

    x: float  # centre, pixels
    y: float
    side: float
    roll_deg: float  # clockwise on the screen
    votes: int = 0


@dataclass(frozen=True)
class AlignedFace:
    """A hit after alignment."""

    hit: Hit
    eyes: F64 | None  # [2, 2] picture pixels, the one at the left of the upright face first
    frontal_votes: tuple[int, ...]  # raw hits of each frontal cascade
    eye_votes: tuple[int, int]


def patch_from_picture(hit: Hit) -> F64:
    """[2, 3] map from picture pixels to the upright patch in whose middle the hit's box lies."""
    return similarity((hit.x, hit.y), (PATCH / 2, PATCH / 2), scale=BOX / hit.side, turn_deg=-hit.roll_deg)


def align_face(grey: U8, hit: Hit, rounds: int = 2) -> AlignedFace | None:
    """Measure a face again on patches turned upright.

    Args:
        grey: [H, W] picture.
        hit: A rough hit, roll within about 15 degrees, size within about 30 %.
        rounds: Times that box, eyes and roll are corrected before the evidence is counted.

    Returns:
        The aligned face, or None where no frontal cascade confirms it.
    """
    for _ in range(rounds):
        measured = _measure(grey, hit, FRONTAL[:1], 1.1)
        if measured is None:
            return None
        hit = measured.hit
    return _measure(grey, hit, FRONTAL, 1.05)


def _measure(grey: U8, hit: Hit, cascades: tuple[str, ...], step: float) -> AlignedFace | None:
    """One measurement on the patch of ``hit``."""
    onto_patch = patch_from_picture(hit)
    patch = warp(grey, onto_patch, (PATCH, PATCH), replicate=True)
    boxes, votes = [], []
    for name in cascades:
        squares = [s for s in find_squares(patch, name, smallest=88, largest=190, step=step) if _is_central(s)]
        votes.append(squares[0][3] if squares else 0)
        boxes += squares[:1]
    if not boxes:
        return None
    weights = np.array([math.sqrt(b[3]) for b in boxes])
    x, y, side = np.average(np.array([b[:3] for b in boxes]), axis=0, weights=weights)
    eyes, eye_votes = _find_eyes(patch, step)
    turn = 0.0 if eyes is None else _turn_of(eyes)
    center = apply(invert(onto_patch), (x, y))
    aligned = Hit(
        float(center[0]), float(center[1]), float(side) / BOX * hit.side, (hit.roll_deg + turn + 180) % 360 - 180
    )
    on_picture = None if eyes is None else apply(invert(onto_patch), eyes)
    return AlignedFace(aligned, on_picture, tuple(votes), eye_votes)


def _is_central(square: tuple[float, float, float, int]) -> bool:
    """Is the square the face that the patch was cut for, rather than a neighbour?"""
    return math.hypot(square[0] - PATCH / 2, square[1] - PATCH / 2) < 0.35 * BOX


def _turn_of(eyes: F64) -> float:
    """Roll of a pair of eyes in its patch, degrees clockwise."""
    dx, dy = eyes[1] - eyes[0]
    return math.degrees(math.atan2(dy, dx))


def _find_eyes(patch: U8, step: float) -> tuple[F64 | None, tuple[int, int]]:
    """Both eyes in an upright patch, or None where one is missing or the pair cannot be eyes; and the votes of each."""
    points, votes = [], []
    for (left, right), cascades in zip(_EYE_COLUMNS, _EYE_CASCADES, strict=True):
        region = np.ascontiguousarray(patch[_EYE_ROWS[0] : _EYE_ROWS[1], left:right])
        point, count = _find_eye(region, cascades, step)
        votes.append(count)
        if point is not None:
            points.append(point + np.array([left, _EYE_ROWS[0]]))
    if len(points) < 2:
        return None, (votes[0], votes[1])
    eyes = np.stack(points)
    gap = float(np.linalg.norm(eyes[1] - eyes[0]))
    plausible = 0.22 * BOX < gap < 0.55 * BOX and abs(_turn_of(eyes)) < _MAX_EYE_TURN
    return (eyes if plausible else None), (votes[0], votes[1])


def _find_eye(region: U8, cascades: tuple[tuple[str, float, float], ...], step: float) -> tuple[F64 | None, int]:
    """One eye in its region: the mean of the cascades that agree."""
    points, total = [], 0
    for name, bias_x, bias_y in cascades:
        for x, y, side, votes in find_squares(region, name, smallest=20, largest=56, step=step)[:1]:
            points.append(np.array([x + bias_x * side, y + bias_y * side]))
            total += votes
    if not points:
        return None, 0
    agreed = [p for p in points if np.linalg.norm(p - points[0]) < _AGREE]
    return np.mean(agreed, axis=0), total
