"""One interface over every data set: what a sample is, and what the loaders can be given to fill gaps in the data.

A data set of many cameras gives an input and further views of the same moment; one of single pictures gives the input's
own view only. Cameras are OpenCV's, in the canonical head frame, in metres, whatever the data set's own convention is.

Legend: C target views, S picture side, H W picture size, L landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headlift.model.types import Cameras

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class PictureSample:
    """One head at one moment: what the model is given, and what its answer is compared with."""

    picture: Tensor  # [4, S, S] premultiplied RGB and alpha, 0..1
    camera: Cameras  # C = 1, the picture's
    targets: Tensor  # [C, 4, S, S] premultiplied RGB and alpha; the first is the input's own view
    target_cameras: Cameras  # of the targets
    subject: str  # who
    views: tuple[str, ...]  # names of the targets' views


@runtime_checkable
class HeadDataset(Protocol):
    """Heads of one data set; item `index` is one moment of one person."""

    name: str

    @property
    def subjects(self) -> Sequence[str]:
        """Who is in it, each once."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...

    def sample(self, index: int, rng: np.random.Generator, targets: int) -> PictureSample:
        """An item's input view with up to `targets` further views; every choice comes from `rng`.

        Raises:
            FormatError: A file is missing or broken.
        """
        ...


@runtime_checkable
class Matter(Protocol):
    """Separates a person from the background; `headlift.stages.preprocess` has such pieces."""

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float]) -> F32:
        """Opacity [H, W] in 0..1 of the person in `rgb` [H, W, 3], whose face lies in the box x0, y0, x1, y1."""
        ...


@dataclass(frozen=True)
class Landmarks:
    """Where the places of a detector were seen in one picture."""

    points: F64  # [L, 2] pixels
    spread: F64  # [L] expected error, pixels; infinite where a place was not seen


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds fixed places of a head in a portrait crop."""

    @property
    def canonical(self) -> F64:
        """[L, 3] m, where the places lie on the template."""
        ...

    def detect(self, rgb: U8) -> Landmarks | None:
        """The places in a square crop [S, S, 3]; None where no face is seen."""
        ...
