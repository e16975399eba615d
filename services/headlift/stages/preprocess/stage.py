"""The preprocess stage: bytes to a cropped, matted ``Portrait`` and a record of its quality.

bytes -> picture -> faces -> crop -> matte of a wider window -> portrait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt
import torch

from headlift.errors import InvalidInputError, NoFaceError, SeveralFacesError
from headlift.limits import SIDE_MAX
from headlift.model.types import Portrait
from headlift.stages.preprocess.detect.haar import HaarFaceDetector
from headlift.stages.preprocess.geometry.crop import crop_from_face
from headlift.stages.preprocess.geometry.resample import compose
from headlift.stages.preprocess.interfaces import Face, FaceDetector, FaceTracker, Matter
from headlift.stages.preprocess.matte.cutout import Cutout
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter
from headlift.stages.preprocess.quality import LEAST_FACE_PX, QualityReason, QualityReport, judge
from headlift.stages.preprocess.read.decode import Picture, PictureLimits, decode_picture

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_SIDE_MIN = 64  # of a crop, pixels: smaller ones have no eyes to see


class SeveralFaces(StrEnum):
    """What to do with a picture of several people."""

    LARGEST = "LARGEST"
    REFUSE = "REFUSE"


@dataclass(frozen=True)
class PreprocessOptions:
    """What a caller may choose for each picture."""

    several_faces: SeveralFaces = SeveralFaces.LARGEST
    face_index: int | None = None  # of the faces by falling size; overrides several_faces
    use_alpha: bool = True  # take the picture's own alpha as the matte
    # Where the head was a moment ago: two rows of the map from picture pixels to the portrait crop of side 1. Heeded
    # where the largest face is taken.
    near: tuple[float, ...] | None = None


@dataclass(frozen=True)
class PreprocessResult:
    """A portrait and all that was learned on the way."""

    portrait: Portrait
    quality: QualityReport
    faces: tuple[Face, ...]  # in upright source pixels, largest first
    timings_ms: dict[str, float] = field(compare=False)


class Preprocess:
    """Turns pictures into portraits; safe to call from several threads, and deterministic.

    Args:
        detector: Finds faces.
        matter: Separates the person from the background.
        size: Side of the crop, pixels.
        limits: What a picture may cost.
        models: Pretrained models that heads are made with, for the record.

    Raises:
        ValueError: ``size`` is outside 64..2048.
    """

    def __init__(
        self,
        detector: FaceDetector | None = None,
        matter: Matter | None = None,
        *,
        size: int = 512,
        limits: PictureLimits | None = None,
        models: tuple[str, ...] = (),
    ) -> None:
        if not _SIDE_MIN <= size <= SIDE_MAX:
            raise ValueError(f"size is {size}; a crop has {_SIDE_MIN} to {SIDE_MAX} pixels a side.")
        self.detector = detector or HaarFaceDetector()
        self.matter = matter or GrabCutMatter()
        self.size = size
        self.limits = limits or PictureLimits()
        self.models = models

    def __call__(self, data: bytes, options: PreprocessOptions | None = None) -> PreprocessResult:
        """Bytes of a picture file to a portrait.

        Raises:
            UnreadablePictureError: Not a still picture of an accepted format.
            PictureTooLargeError: Over a limit.
            NoFaceError: No face, or none of at least 24 pixels.
            SeveralFacesError: Several faces, and the options refuse that.
            InvalidInputError: ``face_index`` names no face, or ``near`` is no such map.
        """
        _check_near(options)
        timings: dict[str, float] = {}
        with _timed(timings, "decode"):
            picture = decode_picture(data, self.limits)
        return self._portray(picture, options or PreprocessOptions(), timings)

    def _portray(self, picture: Picture, options: PreprocessOptions, timings: dict[str, float]) -> PreprocessResult:
        """Everything after decoding."""
        sx, sy = picture.picture_from_source
        alpha = picture.alpha if options.use_alpha else None
        with _timed(timings, "detect"):
            detections = self._detected(_on_grey(picture.rgb, alpha), options, (sx, sy))
            faces = sorted(detections, key=lambda f: (-f.size * f.score, f.box))
            face = _chosen(faces, options, (sx * sy) ** 0.5)
        crop_from_picture = crop_from_face(face, self.size)
        with _timed(timings, "matte"):
            cutout = Cutout.of(picture.rgb, alpha, crop_from_picture, self.size, self.matter, face.maps)
        decided = [QualityReason.SEVERAL_FACES] if len(faces) > 1 and options.face_index is None else []
        decided += [QualityReason.ALPHA_NOT_A_MATTE] if cutout.alpha_was_no_matte else []
        with _timed(timings, "crop"):
            image, matte = cutout.at(crop_from_picture)
        with _timed(timings, "judge"):
            quality = judge(
                picture.rgb,
                face,
                len(faces),
                crop_from_picture,
                matte[0].numpy(),
                picture_from_source=(sx, sy),
                decided=tuple(decided),
                notes=picture.notes,
                models=self.models,
            )
        to_picture = np.array([[sx, 0.0, 0.0], [0.0, sy, 0.0]])
        height, width = picture.rgb.shape[:2]
        portrait = Portrait(
            image,
            matte,
            torch.from_numpy(compose(crop_from_picture, to_picture)),
            source_size=(round(width / sx), round(height / sy)),
        )
        return PreprocessResult(portrait, quality, tuple(f.scaled(1 / sx, 1 / sy) for f in faces), timings)

    def _detected(self, rgb: U8, options: PreprocessOptions, picture_from_source: tuple[float, float]) -> list[Face]:
        """The faces of a picture; that near the last one's place alone, where it is still there."""
        largest = options.face_index is None and options.several_faces is SeveralFaces.LARGEST
        if options.near is not None and largest and isinstance(self.detector, FaceTracker):
            sx, sy = picture_from_source
            frame = np.array(options.near).reshape(2, 3) @ np.diag([1 / sx, 1 / sy, 1.0])
            face = self.detector.track(rgb, frame)
            if face is not None:
                return [face]
        return self.detector.detect(rgb)


def _chosen(faces: list[Face], options: PreprocessOptions, picture_scale: float) -> Face:
    """The face to portray, of faces by falling weight.

    Raises:
        NoFaceError, SeveralFacesError, InvalidInputError: See ``Preprocess.__call__``.
    """
    if not faces:
        raise NoFaceError("No face was found in the picture. Send one that shows a face from the front, well lit.")
    if options.face_index is not None:
        if not 0 <= options.face_index < len(faces):
            raise InvalidInputError(
                f"face_index is {options.face_index}; the picture has {len(faces)} faces, counted from 0.",
                field="face_index",
            )
        face = faces[options.face_index]
    elif len(faces) > 1 and options.several_faces is SeveralFaces.REFUSE:
        raise SeveralFacesError(
            f"The picture shows {len(faces)} faces and 1 was asked for. Crop it, or let the largest be taken.",
            metadata={"face_count": str(len(faces))},
        )
    else:
        face = faces[0]
    if (pixels := face.size / picture_scale) < LEAST_FACE_PX:
        raise NoFaceError(
            f"The face is {pixels:.0f} pixels wide; at least {LEAST_FACE_PX:.0f} are needed. Send a larger picture."
        )
    return face


def _check_near(options: PreprocessOptions | None) -> None:
    near = options.near if options is not None else None
    if near is None:
        return
    if len(near) != 6 or not np.isfinite(near).all() or abs(near[0] * near[4] - near[1] * near[3]) < 1e-12:
        raise InvalidInputError(
            f"near has {len(near)} numbers; it must be 2 rows of 3 finite numbers, which map the picture's pixels to "
            "the crop of side 1, or be left out.",
            field="near",
        )


def _on_grey(rgb: U8, alpha: U8 | None) -> U8:
    """The picture over middle grey, because colours below transparent pixels can be anything."""
    if alpha is None:
        return rgb
    weighted = cv2.multiply(rgb, cv2.merge([alpha] * 3), scale=1 / 255)  # 8 bits throughout: the picture may be large
    return np.asarray(cv2.add(weighted, cv2.merge([(255 - alpha) // 2] * 3)), np.uint8)


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    """Record the wall time of a block, milliseconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = (time.perf_counter() - start) * 1e3
