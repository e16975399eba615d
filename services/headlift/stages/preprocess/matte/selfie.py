"""The matte of heads from a segmentation network that saw photographs of people, in HeadNet's place.

Selfie segmentation knows hair, clothes and shoulders of photographs better than HeadNet, which saw rendered heads
alone, but its border is coarse: alone it is a ghost on buns and flattens dreadlocks. So it gives GrabCut's seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.geometry.crop import BOX_SIDE
from headlift.stages.preprocess.interfaces import HeadMaps, Matter
from headlift.stages.preprocess.matte.grabcut import soften, working_picture
from headlift.stages.preprocess.matte.headnet import SEED_MARGIN_M, cut_from_seeds

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_MIN_FACE = 0.5  # mean opacity of the inner face below which the network sees no person: a bust, a drawing


@dataclass(frozen=True)
class SelfieMatter:
    """Selfie segmentation made exact by GrabCut. Thread safe and deterministic, as ``GrabCutMatter`` is."""

    segment: Callable[[U8], F32]  # [h, w, 3] to a small opacity, 0..1, of any size
    otherwise: Matter  # for pictures in which it sees nobody
    working_side: int = 256  # pixels of the longer side while cutting
    rounds: int = 2

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float], maps: HeadMaps | None = None) -> F32:
        """Opacity [h, w] 0..1 of the person whose face is in ``face_box``; see ``Matter.matte``."""
        small, face_width, prior = working_picture(rgb, face_box, self.working_side)
        size = small.shape[1], small.shape[0]
        rough = np.asarray(cv2.resize(self.segment(rgb), size, interpolation=cv2.INTER_LINEAR), np.float32)
        face = prior.foreground & ~prior.body
        if not face.any() or float(rough[face].mean()) < _MIN_FACE:
            return self.otherwise.matte(rgb, face_box, maps)
        reach = max(1, round(SEED_MARGIN_M / BOX_SIDE * face_width))
        person = cut_from_seeds(small, rough, np.ones(rough.shape, np.bool_), prior, reach, self.rounds)
        return soften(rgb, person)
