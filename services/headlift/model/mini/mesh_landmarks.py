"""A face mesh beside HeadNet's landmarks: where its points lie on heads, how they err, and the fit to both.

HeadNet was taught with rendered heads; a mesh network that was taught with photographs places points of the face
better on photographs (RULES.md). Its points follow the template's anchors about them, and their errors were measured on
rendered heads (``headlift_trainer.mesh_landmarks``). The network itself is given: this package knows no files.

Legend: B portraits, P points of the mesh, M points that are used, L HeadNet's landmarks, A anchors, K code numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headlift.errors import CorruptWeightsError
from headlift.model.cameras import cameras_from_pose, project
from headlift.model.layers import full_precision
from headlift.model.mini.landmark_fit import HeadFit, LandmarkErrors, LandmarkShape, fit_landmarks
from headlift.model.passes import count_pass

MIN_SCORE = 0.9  # below this confidence HeadNet alone is believed
MAX_YAW_DEG = 70.0  # beyond it a mesh invents the hidden half of the face
_STEPS = 4  # from the fit to HeadNet's landmarks on
FORMAT = "headlift-mesh-landmarks-1"

# Pictures [B, 3, S, S] and all P points where they should be, [B, P, 2] -> points [B, P, 2] and confidence [B].
MeshDetector = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class MeshStatistics:
    """How mesh points lie on heads of a template, and how they err in pictures."""

    rows: Tensor  # [P, 12] int64, anchors about each point
    weights: Tensor  # [P, 12] sum 1
    offsets: Tensor  # [P, 3] m, what is left on the mean head
    used: Tensor  # [M] int64, the points that are placed best
    spread: Tensor  # [M] share of the picture's side
    whitening: Tensor  # [2 M, 2 M] see LandmarkErrors

    def to(self, device: torch.device) -> MeshStatistics:
        """A copy on a device, in single precision."""
        return MeshStatistics(
            **{k: v.to(device, torch.float32 if v.is_floating_point() else None) for k, v in vars(self).items()}
        )

    def shape(self, anchors: Tensor, basis: Tensor) -> LandmarkShape:
        """All P points on the mean head, whose anchors [A, 3] these are, and how they follow its basis [K, A, 3]."""
        mean = torch.einsum("pa,pad->pd", self.weights, anchors[self.rows]) + self.offsets
        return LandmarkShape(mean, torch.einsum("pa,kpad->kpd", self.weights, basis[:, self.rows]))


@dataclass(frozen=True)
class MeshLandmarks:
    """A mesh network with its statistics. No module, so that a model that holds one saves the weights of its own."""

    detector: MeshDetector
    statistics: MeshStatistics

    def detect(self, pixels: Tensor, shape: LandmarkShape, fit: HeadFit) -> tuple[Tensor, Tensor]:
        """Points [B, P, 2] of portraits [B, 4, S, S], and which of the portraits [B] they may be believed of."""
        count_pass("face_mesh")
        cameras = cameras_from_pose(fit.pose, 1)
        heads = shape.mean + torch.einsum("bk,kpd->bpd", fit.code, shape.basis)
        guess, _ = project(cameras, heads)
        pictures = pixels[:, :3] + 0.5 * (1 - pixels[:, 3:])
        points, score = self.detector(pictures.float(), guess)
        back = cameras.viewmats[:, 2]  # the camera's axis in the head's frame; the front camera looks along -z
        yaw = torch.atan2(back[:, 0], -back[:, 2]).abs().rad2deg()
        return points, (score >= MIN_SCORE) & (yaw <= MAX_YAW_DEG)


def fit_with_mesh(
    mesh: MeshLandmarks,
    mesh_shape: LandmarkShape,  # of all P points
    pixels: Tensor,  # [B, 4, S, S] premultiplied RGB and alpha
    alone: HeadFit,  # to HeadNet's landmarks
    landmarks: Tensor,  # [B, L, 2]
    spread: Tensor,  # [B, L]
    shape: LandmarkShape,
    pose: Tensor,  # [B, 9] first guess
    code: Tensor,  # [B, K] first guess
    std: Tensor,
    pose_std: Tensor | None,
    *,
    errors: LandmarkErrors,
    fixed_camera: bool = False,
) -> HeadFit:
    """The fit to landmarks and mesh together where the mesh is to be believed; elsewhere ``alone``."""
    with full_precision(pixels.device):
        points, believed = mesh.detect(pixels, mesh_shape, alone)
        rows = believed.nonzero()[:, 0]
        if not len(rows):
            return alone
        statistics, used = mesh.statistics, mesh.statistics.used
        both = fit_landmarks(
            torch.cat([landmarks[rows].float(), points[rows][:, used]], 1),
            torch.cat([spread[rows].float(), statistics.spread.expand(len(rows), -1)], 1),
            LandmarkShape(
                torch.cat([shape.mean, mesh_shape.mean[used]]), torch.cat([shape.basis, mesh_shape.basis[:, used]], 1)
            ),
            pose[rows], code[rows], std, pose_std, errors=_Joined(errors, statistics.whitening),
            fixed_camera=fixed_camera, steps=_STEPS,
            start=HeadFit(alone.pose[rows], alone.code[rows], alone.precision[rows]),
        )  # fmt: skip
        return HeadFit(*(_put(a, rows, b) for a, b in zip(vars(alone).values(), vars(both).values(), strict=True)))


@dataclass(frozen=True)
class _Joined:
    """HeadNet's landmarks, then the mesh's points: the one's errors say nothing of the other's."""

    landmarks: LandmarkErrors
    mesh: Tensor  # [2 M, 2 M]

    def whiten(self, errors: Tensor) -> Tensor:
        """See ``Whitening``."""
        split = errors.shape[1] - len(self.mesh)
        return torch.cat([self.landmarks.whiten(errors[:, :split]), self.mesh @ errors[:, split:]], 1)


def _put(values: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    changed = values.clone()
    changed[rows] = others.to(values.dtype)
    return changed


def load_statistics(file: Path) -> tuple[MeshStatistics, str]:
    """The statistics of a file, and the hash of the template that they belong to.

    Raises:
        CorruptWeightsError: The file is damaged, or another one.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (no dict)
    except (SafetensorError, OSError) as error:
        raise CorruptWeightsError(f"{file.name} is no readable safetensors file; install Headlift again.") from error
    if header.get("format") != FORMAT:
        raise CorruptWeightsError(f"{file.name} holds no statistics of a face mesh; install Headlift again.")
    return MeshStatistics(**tensors), header["template"]
