"""Camera and shape from landmarks: where HeadNet saw the template's anchors, and where a head would put them.

A Gauss-Newton fit of the camera and the geometry half of the head code to 2D landmarks, each trusted as far as HeadNet
trusts it, with the encoder's first guess of both as the prior (compare Wood et al., "3D Face Reconstruction with
Dense Landmarks", ECCV 2022). Ours; a few milliseconds. It matters more than anything that a small network can learn:
a camera that is right by a degree lets every Gaussian find its own pixel. HeadNet's landmarks err together (a jaw that
is seen too far left takes its neighbours along), so the fit is one of generalised least squares (Aitken, 1935), and it
says how sure it is of what: the outline then decides what landmarks leave open.

Legend: B batch, L landmarks, K geometry code numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from headlift.model.cameras import NEAR_M, cameras_from_pose, pose_from_cameras
from headlift.model.layers import full_precision
from headlift.model.passes import count_pass
from headlift.model.types import FOCAL, Cameras

_STEPS = 10
_MIN_SPREAD = 0.003  # share of the picture's side; nobody sees better than that
_OUTLIER = 3.0  # landmarks further off than this many spreads count less and less (Cauchy)
_EFFECTIVE_SAMPLES = 6.0  # neighbouring landmarks err alike: where it is not known how, this many count as one
_DAMPING = 1e-4
_CLIP_SIGMA = 10.0  # how much further off a landmark is says nothing of usual errors
_SHRINKAGE = 0.3  # share of the covariance that is taken to be every number's own: samples are few
_COV_INFLATION = 2.0  # variance on people who are new to HeadNet, over that on those it was trained with


@dataclass(frozen=True)
class LandmarkShape:
    """How landmarks follow from the geometry code: mean + code @ basis."""

    mean: Tensor  # [L, 3] m
    basis: Tensor  # [K, L, 3] m


@dataclass(frozen=True)
class HeadFit:
    """Cameras and geometry codes, and how far they are known."""

    pose: Tensor  # [B, 9]
    code: Tensor  # [B, K]
    precision: Tensor  # [B, 6 + K, 6 + K] inverse covariance of turn (rad), shift (m; both in the camera) and code


class Whitening(Protocol):
    """How landmarks err together."""

    def whiten(self, errors: Tensor) -> Tensor:
        """Errors [B, 2 L, n], in units of their spreads, as independent ones of variance 1."""
        ...


class LandmarkErrors(nn.Module):
    """How HeadNet's landmarks err together, in units of their spreads. Until ``fill``: alike, and each for itself."""

    def __init__(self, landmarks: int) -> None:
        super().__init__()
        self.whitening: Tensor  # its rows see independent errors of variance 1
        self.register_buffer("whitening", torch.eye(2 * landmarks) / _EFFECTIVE_SAMPLES**0.5)
        self.register_load_state_dict_pre_hook(_absent_in_older_files)  # type: ignore[no-untyped-call]

    def whiten(self, errors: Tensor) -> Tensor:
        """Errors [B, 2 L, n] as independent ones of variance 1."""
        return self.whitening @ errors

    @torch.no_grad()
    def fill(self, errors: Tensor) -> None:
        """From samples [n, L, 2] of (seen - true) / spread."""
        flat = errors.flatten(1).double().clamp(-_CLIP_SIGMA, _CLIP_SIGMA)
        covariance = flat.T @ flat / len(flat)  # about zero: what is off on average differs from side to side
        covariance += _SHRINKAGE * (torch.diag(covariance.diagonal()) - covariance)
        covariance.diagonal().add_(1e-6)  # landmarks that never err
        self.whitening.copy_(torch.linalg.inv(torch.linalg.cholesky(_COV_INFLATION * covariance)))


def _absent_in_older_files(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Hook: what was trained before errors were kept goes on without them."""
    for name, value in module.named_buffers():
        state.setdefault(prefix + name, value.clone())


def landmark_errors(landmarks: Tensor, spread: Tensor, truth: Tensor) -> Tensor:
    """Of landmarks [B, L, 2] with these spreads [B, L]: (seen - true) / spread, [B, L, 2]."""
    return (landmarks - truth).float() / spread.float().clamp_min(_MIN_SPREAD)[..., None]


@torch.no_grad()
def fit_landmarks(
    landmarks: Tensor,  # [B, L, 2] 0..1 of the portrait crop
    spread: Tensor,  # [B, L] expected errors
    shape: LandmarkShape,
    pose: Tensor,  # [B, 9] first guess
    code: Tensor,  # [B, K] first guess
    std: Tensor,  # [K] standard error of the guess of the code
    pose_std: Tensor | None = None,  # [9] of the guess of the pose; None: it is only where the search begins
    *,
    errors: Whitening | None = None,  # None: nothing is known of how they agree
    fixed_camera: bool = False,
    start: HeadFit | None = None,  # where the search begins; None: at the first guess
    steps: int = _STEPS,
) -> HeadFit:
    """What agrees with both landmarks and first guess. With a fixed camera only the code moves."""
    count_pass("landmark_fit")
    with full_precision(landmarks.device):
        errors = LandmarkErrors(landmarks.shape[1]).to(landmarks.device) if errors is None else errors
        matrix = cameras_from_pose(pose.float(), 1).viewmats
        rotation, translation = first_rotation, first_translation = matrix[:, :3, :3], matrix[:, :3, 3]
        guess, now = code.float(), code.float()
        if start is not None:
            matrix, now = cameras_from_pose(start.pose, 1).viewmats, start.code
            rotation, translation = matrix[:, :3, :3], matrix[:, :3, 3]
        sharpness = 1 / spread.float().clamp_min(_MIN_SPREAD)[..., None]  # [B, L, 1]
        prior = 1 / std.float().clamp_min(0.02).square()
        held = _camera_precision(pose_std, translation)
        for step_number in range(steps + 1):
            jacobian, residual = _linearised(landmarks.float(), shape, rotation, translation, now)
            jacobian, residual = sharpness[..., None] * jacobian, sharpness * residual  # in spreads
            robust = (1 + residual.square().sum(-1, keepdim=True) / _OUTLIER**2).rsqrt()  # [B, L, 1]
            weighted = errors.whiten((robust[..., None] * jacobian).flatten(1, 2))  # [B, 2 L, 6 + K]
            off = errors.whiten((robust * residual).flatten(1)[..., None])  # [B, 2 L, 1]
            precision = weighted.mT @ weighted + torch.diag_embed(torch.cat([held, prior.expand(len(held), -1)], 1))
            precision += _DAMPING * torch.diag_embed(precision.diagonal(dim1=1, dim2=2) + 1.0)
            if step_number == steps:
                break
            gradient = (weighted.mT @ off)[..., 0]
            gradient[:, :3] += held[:, :3] * _turn(first_rotation @ rotation.mT)
            gradient[:, 3:6] += held[:, 3:] * (first_translation - translation)
            gradient[:, 6:] += prior * (guess - now)
            if fixed_camera:
                now = now + torch.linalg.solve(precision[:, 6:, 6:], gradient[:, 6:])
                continue
            step = torch.linalg.solve(precision, gradient)
            rotation, translation = moved_camera(rotation, translation, step[:, :3].clamp(-0.5, 0.5), step[:, 3:6])
            now = (now + step[:, 6:]).clamp(-5, 5)
        return HeadFit(pose_of(rotation, translation), now, precision)


def moved_camera(rotation: Tensor, translation: Tensor, turn: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations [B, 3, 3] turned by [B, 3] rad about the camera's axes, translations [B, 3] shifted by [B, 3] m."""
    translation = translation + shift.clamp(-0.3, 0.3)
    nearest = translation[:, 2:].clamp_min(0.3)  # a head is never in the camera
    return _rotated(turn) @ rotation, torch.cat([translation[:, :2], nearest], 1)


def _rotated(turn: Tensor) -> Tensor:
    """Rotations [B, 3, 3] by vectors [B, 3] rad (Rodrigues; a matrix exponential takes torch 30 times as long)."""
    angle = (turn.square().sum(-1) + 1e-20).sqrt()[:, None, None]  # its slope is finite at 0
    cross = _cross(turn)
    return (
        torch.eye(3).to(turn)
        + torch.sinc(angle / math.pi) * cross
        + 0.5 * torch.sinc(angle / (2 * math.pi)).square() * (cross @ cross)
    )


def pose_of(rotation: Tensor, translation: Tensor) -> Tensor:
    """Pose numbers [B, 9] of world-to-camera rotations [B, 3, 3] and translations [B, 3] m."""
    matrix = torch.cat([rotation, translation[..., None]], -1)
    matrix = torch.cat([matrix, matrix.new_tensor([0.0, 0, 0, 1]).expand(len(matrix), 1, 4)], 1)
    return pose_from_cameras(Cameras(matrix, torch.eye(3).to(matrix).expand(len(matrix), 3, 3), 1, 1))


def _camera_precision(pose_std: Tensor | None, translation: Tensor) -> Tensor:
    """Of a guessed camera with errors of pose numbers [9]: 1 / variance of turn (rad) and shift (m), [B, 6]."""
    if pose_std is None:
        return translation.new_zeros(len(translation), 6)
    std = pose_std.float().clamp_min(1e-3)
    turn = std[[5, 2, 1]].expand(len(translation), 3)  # about x, y, z near the front camera; elsewhere about as large
    depth = translation[:, 2:].abs()
    return 1 / torch.cat([turn, depth / FOCAL * std[6:8], depth * std[8:9]], 1).square()


def _turn(rotation: Tensor) -> Tensor:
    """The vector [B, 3] of a small rotation [B, 3, 3]: axis times sine of the angle."""
    off = rotation - rotation.mT
    return 0.5 * torch.stack([off[:, 2, 1], off[:, 0, 2], off[:, 1, 0]], -1)


def _linearised(
    landmarks: Tensor, shape: LandmarkShape, rotation: Tensor, translation: Tensor, code: Tensor
) -> tuple[Tensor, Tensor]:
    """The derivative of the landmarks' places by turn, shift and code [B, L, 2, 6 + K], and what is left [B, L, 2]."""
    points = shape.mean + torch.einsum("bk,kld->bld", code, shape.basis)
    turned = points @ rotation.mT
    x, y, z = (turned + translation[:, None]).unbind(-1)
    z = z.clamp_min(NEAR_M)
    residual = landmarks - (0.5 + FOCAL * torch.stack([x, y], -1) / z[..., None])
    zero = torch.zeros_like(x)
    by_point = FOCAL * torch.stack(
        [torch.stack([1 / z, zero, -x / z**2], -1), torch.stack([zero, 1 / z, -y / z**2], -1)], -2
    )
    by_code = torch.einsum("bij,klj->blik", rotation, shape.basis)
    eye = torch.eye(3).to(turned).expand(*turned.shape[:2], 3, 3)
    return by_point @ torch.cat([-_cross(turned), eye, by_code], -1), residual


def _cross(v: Tensor) -> Tensor:
    """Vectors [..., 3] as matrices [..., 3, 3] with _cross(v) @ w = v x w."""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([torch.stack([o, -z, y], -1), torch.stack([z, o, -x], -1), torch.stack([-y, x, o], -1)], -2)
