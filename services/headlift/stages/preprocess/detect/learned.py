"""Learned faces: cascades' hits measured again by HeadNet, and heads from any side, which no cascade finds.

HeadNet knows heads from every side but only in crops near the portrait crop (about 20 degrees of roll, 25 % of size and
a tenth of the side off); so a hit of the cascades is its starting point where there is one, and a grid of crops of
several sizes is where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.detect.headnet import ACCEPT, HeadDetection, HeadNetDetector
from headlift.stages.preprocess.geometry.crop import crop_from_face, face_in_frame
from headlift.stages.preprocess.geometry.resample import apply, invert, scale_of, similarity
from headlift.stages.preprocess.interfaces import Face, FaceDetector, HeadMaps

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]

_ROUNDS = 2  # a third moves crops by less than HeadNet errs
_STRIDE = 0.34  # of the crop's side, between neighbouring crops of the search
_SIZES = (1.0, 0.66, 0.43)  # sides of the crops sought, of the picture's shorter side
_MIN_CROP_PX = 64.0  # pixels; smaller crops have faces of fewer pixels than can be used
_SEARCH_SIDE = 128  # pixels that crops are sought with; at 96 HeadNet no longer tells heads from walls
_MAX_SPREAD = 0.055  # landmark spread up to which a crop of the search is detected in at full size
_CANDIDATES = 3  # crops of one size that are
_MIN_SCORE = 0.3  # from which on a detection's consistency is measured
_STOP_SCORE = 0.9  # score that ends the search


@dataclass(frozen=True)
class HeadNetRefiner:
    """Crops around rough faces, moved until HeadNet finds the head where a portrait has it."""

    headnet: HeadNetDetector

    def refine(self, rgb: U8, faces: Sequence[Face]) -> list[Face]:
        """See ``FaceRefiner.refine``; a face that HeadNet does not find keeps its place and gets HeadNet's score."""
        detections = self.align(rgb, [crop_from_face(face, 1) for face in faces])
        return [
            face_of(detection) if detection.score >= ACCEPT else replace(face, score=detection.score)
            for face, detection in zip(faces, detections, strict=True)
        ]

    def align(self, rgb: U8, frames: Sequence[F64], rounds: int = _ROUNDS) -> list[HeadDetection]:
        """The detection of each frame after it has followed its corrections."""
        detections = list(self.headnet.detect(rgb, frames)) if frames else []
        for _ in range(rounds - 1):
            misaligned = [i for i, s in enumerate(detections) if _is_misaligned(s)]
            if not misaligned:
                break
            corrected = self.headnet.detect(rgb, [detections[i].corrected_frame for i in misaligned])
            for i, moved in zip(misaligned, corrected, strict=True):
                if moved.score >= 0.5 * detections[i].score:
                    detections[i] = moved
        return detections


@dataclass(frozen=True)
class HeadNetSearch:
    """A detector of one head from any side: crops of several sizes, larger first."""

    refiner: HeadNetRefiner

    def detect(self, rgb: U8) -> list[Face]:
        """The head of the highest score in ``rgb`` [H, W, 3], if there is one; see ``FaceDetector.detect``."""
        best: Face | None = None
        for size in _SIZES:
            frames = list(_grid(rgb.shape[1], rgb.shape[0], size * min(rgb.shape[:2])))
            if not frames:
                break
            spreads = self.refiner.headnet.spreads(rgb, frames, _SEARCH_SIDE)
            order = np.argsort(spreads, kind="stable")[:_CANDIDATES]
            tried = [frames[i] for i in order if spreads[i] < _MAX_SPREAD]
            for detection in self.refiner.align(rgb, tried):
                if detection.score < _MIN_SCORE or not _is_within(detection, rgb):
                    continue
                face = replace(face_of(detection), score=self.refiner.headnet.consistency(rgb, detection))
                best = face if best is None or face.score > best.score else best
            if best is not None and best.score >= _STOP_SCORE:
                break
        return [best] if best is not None and best.score >= ACCEPT else []


@dataclass(frozen=True)
class LearnedFaceDetector:
    """A first detector, its faces measured again, and a search where nothing is left of them."""

    first: FaceDetector
    refiner: HeadNetRefiner
    search: FaceDetector
    first_accept: float = 0.6  # score of a first detector that HeadNet alone does not overrule

    def detect(self, rgb: U8) -> list[Face]:
        """Heads in ``rgb`` [H, W, 3], best first; see ``FaceDetector.detect``."""
        rough = self.first.detect(rgb)
        faces = []
        for before, after in zip(rough, self.refiner.refine(rgb, rough), strict=True):
            if after.score >= ACCEPT:
                faces.append(replace(after, score=max(before.score, after.score)))
            elif before.score >= self.first_accept:
                faces.append(before)
        return sorted(faces, key=lambda f: (-f.score, f.box)) or self.search.detect(rgb)

    def track(self, rgb: U8, frame: F64) -> Face | None:
        """The head near a crop, measured as ``detect`` measures rough faces; see ``FaceTracker.track``."""
        (detection,) = self.refiner.align(rgb, [frame])
        sure = detection.score >= ACCEPT and not detection.correction.is_implausible
        return face_of(detection) if sure and _is_within(detection, rgb) else None


def face_of(detection: HeadDetection) -> Face:
    """A detection as the record of a face."""
    marks = detection.points if np.isfinite(detection.points).all() else None
    face = face_in_frame(detection.corrected_frame, score=detection.score, landmarks=marks, yaw_deg=detection.yaw_deg)
    return replace(face, maps=HeadMaps(detection.frame, detection.alpha))


def _is_misaligned(s: HeadDetection) -> bool:
    c = s.correction
    settled = abs(c.scale - 1.0) < 0.03 and c.shift < 0.015 and abs(c.turn_deg) < 2.0
    return not (c.is_implausible or settled)


def _is_within(s: HeadDetection, rgb: U8) -> bool:
    """Does the middle of the head lie in the picture?"""
    x, y = apply(invert(s.corrected_frame), (0.5, 0.5))
    return bool(
        0 <= x <= rgb.shape[1] and 0 <= y <= rgb.shape[0] and scale_of(s.corrected_frame) < 1 / _MIN_CROP_PX * 1.5
    )


def _grid(width: int, height: int, side: float) -> Iterator[F64]:
    """Frames of crops of one side that cover a picture, reaching a fifth of their side beyond its border."""
    if side < _MIN_CROP_PX:
        return
    low = 0.3 * side  # of the first crop's middle
    columns, rows = (
        np.linspace(
            min(low, reach / 2), max(reach - low, reach / 2), max(1, 1 + round((reach - 2 * low) / (_STRIDE * side)))
        )
        for reach in (width, height)
    )
    for y in rows:
        for x in columns:
            yield similarity((float(x), float(y)), (0.5, 0.5), scale=1 / side)
