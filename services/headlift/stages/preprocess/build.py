"""A preprocess stage from settings: which pieces there are, which are used, and what results are kept under."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from headlift.errors import IncompatibleWeightsError, MissingWeightsError
from headlift.model.sizes import HeadModel
from headlift.pretrained.matting import load_matting
from headlift.stages.preprocess.detect.haar import HaarFaceDetector
from headlift.stages.preprocess.detect.headnet import HeadNetDetector, headnet_detector
from headlift.stages.preprocess.detect.learned import HeadNetRefiner, HeadNetSearch, LearnedFaceDetector
from headlift.stages.preprocess.interfaces import FaceDetector, Matter
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter
from headlift.stages.preprocess.matte.headnet import HeadNetMatter
from headlift.stages.preprocess.matte.selfie import SelfieMatter
from headlift.stages.preprocess.read.decode import PictureLimits
from headlift.stages.preprocess.stage import Preprocess

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_CLASSICAL, _LEARNED = "classical-3", "learned-3"  # raised when the same pieces begin to answer differently


@dataclass(frozen=True)
class BuiltPreprocess:
    """A stage and its name."""

    stage: Preprocess
    fingerprint: str  # everything that its results depend on besides picture and options


def build_preprocess(
    model: HeadModel,
    device: torch.device,
    *,
    digest: str,
    mode: str = "auto",
    size: int = 512,
    limits: PictureLimits | None = None,
    matting_weights: Path | None = None,
    segment: Callable[[U8], F32] | None = None,
    segment_digest: str = "",
    models: tuple[str, ...] = (),
) -> BuiltPreprocess:
    """The stage that the settings ask for.

    Args:
        model: Its HeadNet is what learned preprocessing uses.
        device: Where the model is.
        digest: Hash of the model's weights.
        mode: `classical`, `learned`, or `auto`: learned where the model has a trained HeadNet.
        size: Side of the crop, pixels.
        limits: What a picture may cost.
        matting_weights: A TorchScript file of MODNet or Robust Video Matting, in HeadNet's and GrabCut's place.
        segment: A segmentation of people, whose opacities take the place of HeadNet's in the matte.
        segment_digest: Its name in what results are kept under.
        models: Pretrained models that heads are made with, for the record of their quality.

    Raises:
        WeightsError: A file cannot be loaded, or ``mode`` is `learned` and the model has no trained HeadNet.
    """
    headnet = None if mode == "classical" else headnet_detector(model, device)
    if mode == "learned" and headnet is None:
        raise IncompatibleWeightsError(
            f"The network {model.config.name!r} has no trained HeadNet, which preprocess=learned needs; "
            "use auto or classical, or another checkpoint."
        )
    matter: Matter = GrabCutMatter() if headnet is None else HeadNetMatter(headnet)
    if segment is not None and headnet is not None:
        matter = SelfieMatter(segment, otherwise=matter)
    if matting_weights is not None:
        matter = load_matting(matting_weights)
    stage = Preprocess(_detector(headnet), matter, size=size, limits=limits, models=models)
    parts = [
        _CLASSICAL if headnet is None else f"{_LEARNED} headnet={digest}",
        f"size={size}",
    ]
    parts += [f"segment={segment_digest}"] if segment is not None and headnet is not None else []
    parts += [f"matting={_sha256(matting_weights)}"] if matting_weights is not None else []
    return BuiltPreprocess(stage, " ".join(parts))


def _detector(headnet: HeadNetDetector | None) -> FaceDetector:
    if headnet is None:
        return HaarFaceDetector()
    refiner = HeadNetRefiner(headnet)
    return LearnedFaceDetector(HaarFaceDetector(), refiner, HeadNetSearch(refiner))


def _sha256(file: Path) -> str:
    """The hash of a file that was loaded just now."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise MissingWeightsError(f"{file.name} cannot be read: {error.strerror}.") from error
