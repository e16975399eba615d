"""HeadNet as the landmark detector, the matter and the parser of real data.

Legend: L landmarks, S crop side.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from headlift.model.mini.headnet import HeadNet
from headlift_trainer.datasets.interface import F32, F64, U8, Landmarks
from headlift_trainer.template.build import builtin_template

SIDE = 256  # of the crops that HeadNet reads
FACE_CLASSES = (2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)  # skin, brows, eyes, nose, mouth and lips, hair, glasses
_DOUBTFUL = 0.05  # share of the crop's side; a face whose landmarks are less sure is none


class HeadNetReader:
    """HeadNet as a `LandmarkDetector` and a `Matter`."""

    def __init__(self, net: HeadNet) -> None:
        self._net = net
        self._canonical = builtin_template().anchors[net.landmark_rows].double().numpy()

    @property
    def canonical(self) -> F64:
        """See LandmarkDetector."""
        return self._canonical

    @torch.no_grad()
    def detect(self, rgb: U8) -> Landmarks | None:
        """See LandmarkDetector."""
        side = rgb.shape[0]
        out = self._net(_tensor(rgb))
        spread = out.spread[0].double().numpy()
        if np.median(spread) > _DOUBTFUL:
            return None
        return Landmarks(out.landmarks[0].double().numpy() * side, spread * side)

    @torch.no_grad()
    def matte(self, rgb: U8, face_box: tuple[float, float, float, float]) -> F32:
        """See Matter; the crop is brought to the network's side and the matte back."""
        alpha = self._net(_tensor(rgb)).alpha.sigmoid()[0, 0].numpy()
        return np.asarray(cv2.resize(alpha, rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32).clip(0, 1)

    @torch.no_grad()
    def parse(self, rgb: U8) -> U8:
        """Classes (facer's `celebm` order) of a square crop, at half the network's side."""
        return np.asarray(self._net(_tensor(rgb)).parsing[0].argmax(0).numpy(), np.uint8)


def _tensor(rgb: U8) -> torch.Tensor:
    small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA if rgb.shape[0] > SIDE else cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(small)).permute(2, 0, 1)[None].float() / 255
