"""Classical face detection: Haar cascades at every in-plane rotation, cheapest search first.

A proposal of one fast cascade counts for nothing by itself; it becomes a face when, turned upright, several cascades
and the eyes agree. The search widens (rotations, small faces, profiles) only while nothing convincing was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.detect.align import BOX, PATCH, AlignedFace, Hit, align_face, patch_from_picture
from headlift.stages.preprocess.detect.cascades import FRONTAL, PROFILE, find_squares
from headlift.stages.preprocess.geometry.resample import apply, invert, scale_of, similarity, warp
from headlift.stages.preprocess.interfaces import Face

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Search:
    """One pass over the picture."""

    side: int  # the picture's longer side is shrunk to this, pixels
    rolls: tuple[float, ...]  # degrees clockwise that faces are sought at
    largest: float = 1.0  # of the shorter side
    equalized: bool = False  # search the picture with its histogram equalised: dark, pale and backlit faces


_FRONTAL_SEARCHES = (
    _Search(400, (0,)),
    _Search(400, (0,), equalized=True),
    _Search(320, (30, -30, 90, -90, 180)),
    _Search(1000, (0,), largest=0.12),
    _Search(320, (60, -60, 120, -120, 150, -150)),
)
_PROFILE_SEARCH = _Search(320, (0, 25, -25))
_PROFILE_SIDE = 1.25  # sides of the profile cascade's square to those of the frontal ones, on the same heads
_PROFILE_YAW = 55.0  # degrees; what the profile cascade finds lies between about 35 and 90


@dataclass(frozen=True)
class HaarFaceDetector:
    """Finds faces with the cascades that OpenCV carries.

    Thread safe: each thread has its own classifiers.
    """

    smallest: int = 24  # pixels of the shrunk picture; the cascades' own window
    accept: float = 0.42  # least score of a face
    certain: float = 0.60  # a score that ends the search
    max_faces: int = 8

    def detect(self, rgb: U8) -> list[Face]:
        """Faces in ``rgb`` [H, W, 3], best first; see ``FaceDetector.detect``."""
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        grey = _stretched(grey)
        faces: list[Face] = []
        for search in _FRONTAL_SEARCHES:
            if search.side > 400 and max(grey.shape) <= 400:
                continue
            view = _equalized(grey) if search.equalized else grey
            for hit in self._proposals(view, search):
                if not any(_is_same(hit, face) for face in faces if face.score >= self.certain):
                    faces += self._confirmed(view, hit)
            faces = _distinct(faces)
            if faces and faces[0].score >= self.certain:
                break
        return faces or _distinct(list(self._profiles(grey)))

    def _proposals(self, grey: U8, search: _Search) -> list[Hit]:
        """Rough hits of the fastest cascade, most votes first, at most ``max_faces``."""
        hits: list[Hit] = []
        for roll, turned, back in _turned(grey, search):
            largest = search.largest * min(turned.shape)
            for x, y, side, votes in find_squares(turned, FRONTAL[0], smallest=self.smallest, largest=largest, votes=2):
                at = apply(back, (x, y))
                hits.append(Hit(float(at[0]), float(at[1]), side * scale_of(back), roll, votes))
        return sorted(hits, key=lambda h: -h.votes)[: self.max_faces]

    def _confirmed(self, grey: U8, hit: Hit) -> list[Face]:
        """The face at ``hit``, if there is one; tried to either side in case the roll was at the edge of its bin."""
        turns = (0.0, 12.0, -12.0) if hit.votes >= 4 else (0.0,)
        for turn in turns:
            aligned = align_face(grey, replace(hit, roll_deg=hit.roll_deg + turn))
            if aligned is not None:
                score = _score(aligned)
                return [_face(aligned, score)] if score >= self.accept else []
        return []

    def _profiles(self, grey: U8) -> Iterator[Face]:
        """Faces in profile, of either side."""
        for mirrored in (False, True):  # the cascade was trained on faces turned to the left
            view = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
            for roll, turned, back in _turned(view, _PROFILE_SEARCH):
                for x, y, side, votes in find_squares(turned, PROFILE, smallest=self.smallest, votes=4)[:3]:
                    at = apply(back, (x, y))
                    face = _profile(view, Hit(float(at[0]), float(at[1]), side * scale_of(back), roll, votes))
                    if face.score >= self.accept:
                        yield _mirrored(face, grey.shape[1]) if mirrored else face


def _profile(grey: U8, hit: Hit) -> Face:
    """A profile hit with its raw hits counted on a fine grid, in the box of ``Face``."""
    patch = warp(grey, patch_from_picture(hit), (PATCH, PATCH), replicate=True)
    squares = find_squares(patch, PROFILE, smallest=80, largest=200, step=1.05)
    votes = squares[0][3] if squares else 0
    hit = replace(hit, side=hit.side / _PROFILE_SIDE)
    return Face(_box(hit), votes / (votes + 25.0), None, hit.roll_deg, -_PROFILE_YAW)


def _stretched(grey: U8) -> U8:
    """The picture with at least half of the full contrast; cascades take windows of little variance for empty."""
    low, high = (
        float(v) for v in np.percentile(grey[:: 1 + grey.shape[0] // 256, :: 1 + grey.shape[1] // 256], (1, 99))
    )
    if high - low >= 128.0 or high - low < 8.0:
        return grey
    gain = 255.0 / (high - low)
    return np.asarray(cv2.convertScaleAbs(np.maximum(grey, round(low)), alpha=gain, beta=-gain * round(low)), np.uint8)


def _equalized(grey: U8) -> U8:
    """The picture with its histogram equalised locally."""
    return np.asarray(cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)).apply(grey), np.uint8)


def _turned(grey: U8, search: _Search) -> Iterator[tuple[float, U8, F64]]:
    """(roll, picture in which faces of that roll are upright, map back), for each roll of a search."""
    height, width = grey.shape
    scale = min(1.0, search.side / max(grey.shape))
    for roll in search.rolls:
        c, s = abs(math.cos(math.radians(roll))), abs(math.sin(math.radians(roll)))
        size = round(scale * (c * width + s * height)), round(scale * (s * width + c * height))
        onto = similarity((width / 2, height / 2), (size[0] / 2, size[1] / 2), scale=scale, turn_deg=-roll)
        yield roll, warp(grey, onto, size), invert(onto)


def _score(aligned: AlignedFace) -> float:
    """Confidence 0..1: raw hits, each count saturating, of three frontal cascades and of the weaker eye."""
    frontal = float(np.mean([v / (v + 15.0) for v in aligned.frontal_votes]))
    weaker = min(aligned.eye_votes) if aligned.eyes is not None else 0
    return 0.6 * frontal + 0.4 * weaker / (weaker + 15.0)


def _box(hit: Hit) -> tuple[float, float, float, float]:
    half = hit.side / 2
    return hit.x - half, hit.y - half, hit.x + half, hit.y + half


def _face(aligned: AlignedFace, score: float) -> Face:
    """The public record of an aligned face."""
    if aligned.eyes is None:
        return Face(_box(aligned.hit), score, None, aligned.hit.roll_deg)
    landmarks = np.full((5, 2), np.nan)
    landmarks[:2] = aligned.eyes
    middle = apply(patch_from_picture(aligned.hit), aligned.eyes.mean(0))
    yaw = math.degrees(math.asin(max(-1.0, min(1.0, (middle[0] - PATCH / 2) / (0.25 * BOX)))))
    return Face(_box(aligned.hit), score, landmarks, aligned.hit.roll_deg, yaw)


def _mirrored(face: Face, width: int) -> Face:
    x0, y0, x1, y1 = face.box
    return Face((width - x1, y0, width - x0, y1), face.score, None, -face.roll_deg, -face.yaw_hint)


def _is_same(a: Hit, b: Face) -> bool:
    """Do a hit and a face cover one place?"""
    x, y = b.center
    return math.hypot(a.x - x, a.y - y) < 0.5 * max(a.side, b.size)


def _distinct(faces: list[Face]) -> list[Face]:
    """Faces without those that a better one covers, best first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: (-f.score, f.box)):
        x, y = face.center
        if not any(_is_same(Hit(x, y, face.size, 0.0), other) for other in kept):
            kept.append(face)
    return kept
