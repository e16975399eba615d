"""facer's FaRL networks as a parser of upright crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headlift.pretrained.facer import FaceParsing
from headlift.stages.preprocess.detect.headnet import FIVE_POINTS
from headlift.stages.preprocess.geometry.crop import crop_from_face, project_frontal
from headlift.stages.preprocess.geometry.resample import apply, invert
from headlift.stages.preprocess.interfaces import Face

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FacerParser:
    """A network of facer's, for faces whose eyes and mouth are visible; from behind it finds little."""

    network: FaceParsing

    def parse(self, rgb: U8, face: Face) -> F32:
        """See ``Parser.parse``."""
        picture = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
        points = torch.from_numpy(five_points(face)).float()[None]
        return np.asarray(self.network(picture, points)[0].numpy(), np.float32)


def five_points(face: Face) -> F64:
    """[5, 2] eye, eye, nose tip, mouth corners of a face; where they are unknown, those of an average one."""
    if face.landmarks is not None and np.isfinite(face.landmarks).all():
        return face.landmarks
    places = np.array([project_frontal((float(x), float(y), float(z))) for x, y, z in FIVE_POINTS])
    return apply(invert(crop_from_face(face, 1)), places)
