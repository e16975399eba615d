"""Heads in crops of an image by HeadNet: is there one, how is it turned, and where should the crop have been?

HeadNet always answers, for it was trained on heads alone; what tells a head from a wall is how well the answer hangs
together: how near the truth the network expects each landmark to be, whether the landmarks lie as a head's can, and
how decided the parsing is. ``HeadDetection.score`` weighs the three; ``HeadNetDetector.consistency`` also detects in
perturbed crops.

Legend: B crops, L landmarks, K numbers of the head's shape, S crop side, h = S / 2.
A *frame* is a [2, 3] similarity from picture pixels to the portrait crop of side 1 (see ``crop``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headlift.model.cameras import cameras_from_pose
from headlift.model.mini.headnet import HeadNet, HeadNetOutput
from headlift.model.mini.landmark_fit import LandmarkShape, fit_landmarks
from headlift.model.mini.model import MiniHead
from headlift.model.sizes import HeadModel
from headlift.model.types import FOCAL, Cameras
from headlift.stages.preprocess.geometry.correction import CropCorrection, correct_crop
from headlift.stages.preprocess.geometry.resample import apply, compose, invert, scale_of, similarity, warp

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

ACCEPT = 0.5  # least score of a head
SIDE = 192  # pixels a side of the crops that HeadNet gets; what it was trained last with
_BATCH = 16
# Eye, eye, nose tip, mouth corner, mouth corner of the canonical head, m; the eye left in the picture comes first.
FIVE_POINTS = np.array(
    [
        (-0.0315, 0.028, 0.045),
        (0.0315, 0.028, 0.045),
        (0.0, -0.0095, 0.078),
        (-0.025, -0.0446, 0.055),
        (0.025, -0.0446, 0.055),
    ]
)
# Rotations, shifts and scales of the crop that consistency is measured with.
_PERTURBATIONS = (
    similarity((0.5, 0.5), (0.55, 0.5), turn_deg=12.0),
    similarity((0.5, 0.5), (0.45, 0.5), turn_deg=-12.0),
    similarity((0.5, 0.5), (0.5, 0.55), scale=1.18),
    similarity((0.5, 0.5), (0.5, 0.45), scale=0.85),
)
_MAX_FRONTAL_YAW = 60.0  # degrees of yaw up to which all five points are visible


@dataclass(frozen=True)
class HeadDetection:
    """HeadNet's detection in one crop."""

    frame: F64  # [2, 3] the crop that HeadNet got
    score: float  # 0..1, confidence that a head is there; 0.5 is the border
    spread: float  # the landmarks' expected error, share of the crop's side, median
    residual: float  # how far the landmarks lie from where a head could have them, share of the side, mean
    entropy: float  # of the parsing, nats, mean
    yaw_deg: float  # -180..180; positive when the face turns to the picture's right
    correction: CropCorrection  # of the frame
    points: F64  # [5, 2] FIVE_POINTS in picture pixels, NaN where turned away
    alpha: F32  # [h, h] 0..1
    parsing: F32  # [19, h, h] 0..1

    @property
    def corrected_frame(self) -> F64:
        """The frame in which the head would fill the portrait window upright; the same where that is far off."""
        return self.frame if self.correction.is_implausible else compose(self.correction.matrix, self.frame)


class HeadNetDetector:
    """A trained HeadNet with the shapes that heads can have; safe to call from several threads."""

    def __init__(self, net: HeadNet, shape: LandmarkShape, device: torch.device | str = "cpu") -> None:
        """Hold a network.

        Args:
            net: In evaluation mode, on ``device``.
            shape: Its landmarks on the mean head and how they vary; codes have unit variance.
            device: Where the network is.
        """
        self._net = net
        self._shape = LandmarkShape(shape.mean.float().cpu(), shape.basis.float().cpu())
        self._device = torch.device(device)

    def spreads(self, rgb: U8, frames: Sequence[F64], side: int) -> F32:
        """The first, cheap evidence: median expected landmark error in each frame of ``rgb`` [H, W, 3]; [B]."""
        spreads = [self._forward(rgb, frames[i : i + _BATCH], side).spread for i in range(0, len(frames), _BATCH)]
        return np.asarray(torch.cat(spreads).median(1).values.numpy(), np.float32)

    def detect(self, rgb: U8, frames: Sequence[F64], side: int = SIDE) -> list[HeadDetection]:
        """The detection in each frame of ``rgb`` [H, W, 3]; ``side`` is a multiple of 16."""
        detections: list[HeadDetection] = []
        for start in range(0, len(frames), _BATCH):
            some = frames[start : start + _BATCH]
            detections += self._detections(self._forward(rgb, some, side), some)
        return detections

    def consistency(self, rgb: U8, detection: HeadDetection) -> float:
        """Confidence 0..1 from perturbed crops: a head moves with the crop, a false detection does not.

        Four crops about the corrected frame, turned, shifted and scaled, have to show one head at one place.
        """
        perturbed = self.detect(rgb, [compose(change, detection.corrected_frame) for change in _PERTURBATIONS])
        drift = float(np.mean([_drift(other, detection) for other in perturbed]))
        spread = float(np.mean([other.spread for other in perturbed]))
        return consistency_score(spread, drift, detection.residual, detection.entropy)

    @torch.no_grad()
    def _forward(self, rgb: U8, frames: Sequence[F64], side: int) -> HeadNetOutput:
        """HeadNet's output for frames, on the CPU."""
        crops = [warp(rgb, np.diag([side, side]) @ frame, (side, side), replicate=True) for frame in frames]
        pictures = torch.from_numpy(np.stack(crops)).to(self._device).permute(0, 3, 1, 2).float() / 255
        output = self._net(pictures)
        return HeadNetOutput(**{name: value.float().cpu() for name, value in vars(output).items()})

    def _detections(self, output: HeadNetOutput, frames: Sequence[F64]) -> list[HeadDetection]:
        """Detections from HeadNet's output, with a camera fitted to the landmarks of each."""
        count, rank = len(frames), len(self._shape.basis)
        fit = fit_landmarks(
            output.landmarks, output.spread, self._shape, output.pose, torch.zeros(count, rank), torch.ones(rank)
        )
        cameras = cameras_from_pose(fit.pose, 1)
        shape = self._shape.mean + torch.einsum("bk,kld->bld", fit.code, self._shape.basis)
        residual = torch.linalg.vector_norm(project(shape, cameras) - output.landmarks, dim=-1).mean(1)
        points = project(torch.from_numpy(FIVE_POINTS).float().expand(count, -1, -1), cameras).double().numpy()
        parsing, alpha = output.parsing.softmax(1), output.alpha.sigmoid()
        entropy = -(parsing * parsing.clamp_min(1e-6).log()).sum(1).mean((1, 2))
        spread = output.spread.median(1).values
        detections = []
        for i, frame in enumerate(frames):
            # where the camera stands, seen from the head: its own left is the picture's right when it faces us
            yaw = math.degrees(math.atan2(-float(cameras.viewmats[i, 2, 0]), -float(cameras.viewmats[i, 2, 2])))
            facing = abs(yaw) < _MAX_FRONTAL_YAW
            detections.append(
                HeadDetection(
                    frame,
                    detection_score(float(spread[i]), float(residual[i]), float(entropy[i])),
                    float(spread[i]),
                    float(residual[i]),
                    float(entropy[i]),
                    -yaw,
                    correct_crop(cameras[i]),
                    apply(invert(frame), points[i]) if facing else np.full((5, 2), np.nan),
                    alpha[i, 0].numpy(),
                    parsing[i].numpy(),
                )
            )
        return detections


def detection_score(spread: float, residual: float, entropy: float) -> float:
    """Confidence 0..1 that a crop shows a head, from HeadNet's own uncertainty; see ``HeadDetection``."""
    negative_logit = 4.0 * math.log(max(spread, 1e-4) / 0.0218) + 1.5 * math.log(max(residual, 1e-4) / 0.02)
    negative_logit += 3.0 * (entropy - 0.32)
    return 1.0 / (1.0 + math.exp(max(-40.0, min(40.0, negative_logit))))


def consistency_score(spread: float, drift: float, residual: float, entropy: float) -> float:
    """The same with perturbed crops; see ``HeadNetDetector.consistency``."""
    negative_logit = 4.0 * math.log(max(spread, 1e-4) / 0.0201) + 2.0 * (min(drift, 6.0) - 1.9)
    negative_logit += math.log(max(residual, 1e-4) / 0.02) + entropy - 0.3 + 2.1
    return 1.0 / (1.0 + math.exp(max(-40.0, min(40.0, negative_logit))))


def _drift(other: HeadDetection, detection: HeadDetection) -> float:
    """How far two detections of one head lie apart, in errors that HeadNet makes of heads: about 1 for one head."""
    between = compose(other.corrected_frame, invert(detection.corrected_frame))
    shift = math.dist(apply(between, (0.5, 0.5)), (0.5, 0.5))
    turn = abs(math.degrees(math.atan2(between[1, 0], between[0, 0])))
    yaw = abs((other.yaw_deg - detection.yaw_deg + 180.0) % 360.0 - 180.0)
    return shift / 0.03 + abs(math.log(max(scale_of(between), 1e-6))) / 0.08 + turn / 5.0 + yaw / 12.0


def project(points: Tensor, cameras: Cameras) -> Tensor:
    """Points [B, L, 3] m as cameras (C = B) of the portrait crop see them: [B, L, 2] in 0..1."""
    local = points @ cameras.viewmats[:, :3, :3].mT + cameras.viewmats[:, None, :3, 3]
    return 0.5 + FOCAL * local[..., :2] / local[..., 2:].clamp_min(0.05)


def headnet_detector(model: HeadModel, device: torch.device | str = "cpu") -> HeadNetDetector | None:
    """The HeadNet inside a network, or None where it has none that is trained."""
    if not isinstance(model, MiniHead) or not bool(model.encoder.headnet.landmark_rows.any()):
        return None
    return HeadNetDetector(model.encoder.headnet, model.landmark_shape(), device)
