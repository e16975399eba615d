"""What a data set has to say of how it lies on disk: many calibrated cameras, or single pictures.

Legend: V cameras of a moment, L landmarks, H W picture size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from headlift_trainer.datasets.headframe import HeadPose, rig_frame
from headlift_trainer.datasets.interface import F32, F64, U8


@dataclass(frozen=True)
class MomentKey:
    """One person at one time."""

    subject: str
    name: str  # within the subject; "" where there is only one
    folder: Path
    frame: int = 0

    @property
    def key(self) -> str:
        """Its name in sidecar files and lists."""
        return f"{self.subject}/{self.name}" if self.name else self.subject


@dataclass(frozen=True)
class RigCameras:
    """The calibrated cameras of a moment, in the data set's world."""

    names: tuple[str, ...]
    viewmats: F64  # [V, 4, 4] world to camera, OpenCV
    Ks: F64  # [V, 3, 3] pixels of a picture of `nominal` size
    nominal: tuple[int, int] | None = None  # width and height that K belongs to; None is the picture's own


@dataclass(frozen=True)
class Picture:
    """One picture, decoded."""

    rgb: U8  # [H, W, 3]
    matte: F32 | None = None  # [H, W] 0..1, where the data set has one


class RigLayout(ABC):
    """How one data set lies on disk. Listing touches folder names only; nothing is decoded before it is asked for."""

    kind: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def subjects(self) -> list[str]:
        """Everybody, sorted."""

    @abstractmethod
    def moments(self, subject: str, count: int) -> list[MomentKey]:
        """Up to `count` moments of a person, evenly spread over what there is."""

    @abstractmethod
    def cameras(self, moment: MomentKey) -> RigCameras:
        """The calibration.

        Raises:
            FormatError: It is missing or broken.
        """

    @abstractmethod
    def picture(self, moment: MomentKey, view: str) -> Picture:
        """One camera's picture.

        Raises:
            FormatError: It is missing or broken.
        """

    def pose(self, moment: MomentKey, cameras: RigCameras) -> HeadPose:
        """The head's pose by the data set itself; by default what its cameras suggest.

        Raises:
            InvalidInputError: Nothing tells where the head is.
        """
        return HeadPose(rig_frame(cameras.viewmats), "rig")

    def refused(self, moment: MomentKey, view: str) -> str | None:
        """Why the data set itself calls a view unusable, if it does."""
        return None

    def audit(self, subject: str) -> list[str]:
        """What is missing or does not fit together in a person's folder, found without decoding pictures."""
        return []


@dataclass(frozen=True)
class WildKey:
    """One picture."""

    subject: str
    key: str  # its name in sidecar files and lists
    path: Path


class WildLayout(ABC):
    """How one data set of single pictures lies on disk."""

    kind: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def pictures(self) -> list[WildKey]:
        """Everything there is, sorted; nothing is decoded."""

    @abstractmethod
    def picture(self, key: WildKey) -> Picture:
        """One picture.

        Raises:
            FormatError: It is missing or broken.
        """

    def landmarks(self, key: WildKey) -> F64 | None:
        """Published landmarks [68 or 5, 2], pixels of the picture; None where there are none."""
        return None

    def occlusion(self, key: WildKey) -> str | None:
        """What the data set's annotations say is before the face; None for nothing, or where they say nothing."""
        return None

    def audit(self) -> list[str]:
        """What is missing or does not fit together, found without decoding pictures."""
        return []
