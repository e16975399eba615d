"""What finds faces, mattes and parses: protocols that classical and learned pieces share.

Every implementation must be safe to call from several threads and give the same answer to the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# The order of facer's `celebm`; sides are the person's: rr right ear, rb right brow, re right eye, earr ear ring,
# neck_l necklace.
CLASSES = (
    "background", "neck", "face", "cloth", "rr", "lr", "rb", "lb", "re", "le",
    "nose", "imouth", "llip", "ulip", "hair", "eyeg", "hat", "earr", "neck_l",
)  # fmt: skip


@dataclass(frozen=True)
class HeadMaps:
    """What a detector measured in the portrait crop of a head, for later steps."""

    frame: F64  # [2, 3] from picture pixels to the crop of side 1 that it measured in; near Face.frame, not the same
    alpha: F32  # [h, h] 0..1, rough opacity of the person

    def moved(self, to_other: F64) -> HeadMaps:
        """The same maps in a picture that this one's pixels are brought to by ``to_other`` [2, 3]."""
        inverse = np.linalg.inv(np.vstack([to_other, [0.0, 0.0, 1.0]]))
        return HeadMaps((np.vstack([self.frame, [0.0, 0.0, 1.0]]) @ inverse)[:2], self.alpha)


@dataclass(frozen=True)
class Face:
    """One face in a picture, in its pixels.

    ``box`` is an upright square in the face's own axes, about 0.164 m wide on an average adult, whose middle lies
    between the eyes and the mouth; ``roll_deg`` turns it about that middle. Landmarks are named by what the picture
    shows: index 0 is the eye further left in the face's own upright picture (the person's right eye).
    """

    box: tuple[float, float, float, float]  # x0, y0, x1, y1; before rolling
    score: float  # 0..1, confidence that this is a face
    landmarks: F64 | None = None  # [5, 2] eye, eye, nose tip, mouth corner, mouth corner; NaN rows are unknown
    roll_deg: float = 0.0  # clockwise on the screen; 90 means that the top of the head points right
    yaw_hint: float = 0.0  # degrees, rough; positive when the face turns to the picture's right, 180 is from behind
    # [2, 3] from picture pixels to the portrait crop of side 1, where something knows it better than box and eyes do
    frame: F64 | None = field(default=None, compare=False)
    maps: HeadMaps | None = field(default=None, compare=False)

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def size(self) -> float:
        """Side of the box, pixels."""
        return self.box[2] - self.box[0]

    def scaled(self, sx: float, sy: float | None = None) -> Face:
        """The same face in a picture resized by ``sx`` and ``sy``."""
        sy = sx if sy is None else sy
        x0, y0, x1, y1 = self.box
        marks = None if self.landmarks is None else self.landmarks * np.array([sx, sy])
        frame = None if self.frame is None else self.frame @ np.diag([1 / sx, 1 / sy, 1.0])
        maps = None if self.maps is None else self.maps.moved(np.array([[sx, 0.0, 0.0], [0.0, sy, 0.0]]))
        return Face((x0 * sx, y0 * sy, x1 * sx, y1 * sy), self.score, marks, self.roll_deg, self.yaw_hint, frame, maps)


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces."""

    def detect(self, rgb: U8) -> list[Face]:
        """Faces in ``rgb`` [H, W, 3], best first; an empty list where there is none."""
        ...


@runtime_checkable
class FaceTracker(Protocol):
    """Finds a face again in the next picture of a film."""

    def track(self, rgb: U8, frame: F64) -> Face | None:
        """The face near a portrait crop of ``rgb`` [H, W, 3], or None; ``frame`` [2, 3] maps pixels to its side, 1."""
        ...


@runtime_checkable
class FaceRefiner(Protocol):
    """Measures faces again that something else has found roughly."""

    def refine(self, rgb: U8, faces: Sequence[Face]) -> list[Face]:
        """Better faces.

        Args:
            rgb: [H, W, 3] sRGB.
            faces: Rough ones: centre and size within a quarter of the size, roll within 25 degrees.

        Returns:
            One for each, in the same order: centre, size, roll, yaw and landmarks measured on the picture, ``frame``
            where it is known, and in ``score`` the confidence that a head is there at all.
        """
        ...


@runtime_checkable
class Parser(Protocol):
    """Classifies every pixel."""

    def parse(self, rgb: U8, face: Face) -> F32:
        """Class probabilities.

        Args:
            rgb: [h, w, 3] sRGB, the face upright.
            face: The face, in pixels of ``rgb``.

        Returns:
            [19, h, w] 0..1, sum 1 at each pixel, in the order of ``CLASSES``.
        """
        ...


@runtime_checkable
class Matter(Protocol):
    """Separates a person from the background."""

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float], maps: HeadMaps | None = None) -> F32:
        """Opacity of the person.

        Args:
            rgb: [h, w, 3] sRGB, the face upright, pixels outside the picture filled with its border.
            face_box: The face as in ``Face.box``, in pixels of ``rgb``.
            maps: What the detector measured of this head, in pixels of ``rgb``.

        Returns:
            [h, w] 0..1.
        """
        ...
