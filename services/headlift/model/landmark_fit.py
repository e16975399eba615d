"""Camera and shape from landmarks: where HeadNet saw the template's anchors, and where a head would put them.

A Gauss-Newton fit of the camera and the geometry half of the head code to 2D landmarks, each trusted as far as HeadNet
trusts it, with the encoder's first guess of both as the prior (compare Wood et al., "3D Face Reconstruction with
Dense Landmarks", ECCV 2022). Ours; a few milliseconds. It matters more than anything that a small network can learn:
a camera that is right by a degree lets every Gaussian find its own pixel.

Legend: B batch, L landmarks, K geometry code numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headlift.model.cameras import cameras_from_pose, pose_from_cameras
from headlift.model.layers import full_precision
from headlift.model.types import FOCAL, Cameras

_STEPS = 10
_LEAST_SPREAD = 0.003  # share of the picture's side; nobody sees better than that
_OUTLIER = 3.0  # landmarks further off than this many spreads count less and less (Cauchy)
_AS_ONE = 6.0  # errors of neighbouring landmarks agree: this many count as one independent sighting
_DAMPING = 1e-4


@dataclass(frozen=True)
class LandmarkShape:
    """How landmarks follow from the geometry code: mean + code @ basis."""

    mean: Tensor  # [L, 3] m
    basis: Tensor  # [K, L, 3] m


@torch.no_grad()
def fit_landmarks(
    landmarks: Tensor,  # [B, L, 2] 0..1 of the portrait crop
    spread: Tensor,  # [B, L] expected errors
    shape: LandmarkShape,
    pose: Tensor,  # [B, 9] first guess
    code: Tensor,  # [B, K] first guess
    doubt: Tensor,  # [K] standard error of the guess of the code
    pose_doubt: Tensor | None = None,  # [9] of the guess of the pose; None: it is only where the search begins
    *,
    fixed_camera: bool = False,
) -> tuple[Tensor, Tensor]:
    """What agrees with both landmarks and first guess: pose [B, 9] and geometry code [B, K].

    With a fixed camera only the code moves.
    """
    with full_precision(landmarks.device):
        matrix = cameras_from_pose(pose.float(), 1).viewmats
        rotation, translation = first_rotation, first_translation = matrix[:, :3, :3], matrix[:, :3, 3]
        start, now = code.float(), code.float()
        trust = 1 / spread.float().clamp_min(_LEAST_SPREAD).square() / _AS_ONE
        prior = 1 / doubt.float().clamp_min(0.02).square()
        held = _camera_trust(pose_doubt, translation)
        for _ in range(_STEPS):
            jacobian, residual = _linearised(landmarks.float(), shape, rotation, translation, now)
            off = residual.square().sum(-1) * trust * _AS_ONE
            weight = (trust / (1 + off / _OUTLIER**2))[..., None, None]  # [B, L, 1, 1]
            normal = (jacobian.mT @ (weight * jacobian)).sum(1)  # [B, 6 + K, 6 + K]
            gradient = (jacobian.mT @ (weight * residual[..., None])).sum(1)[..., 0]
            turned = _turn(first_rotation @ rotation.mT)
            normal += torch.diag_embed(torch.cat([held, prior.expand(len(held), -1)], 1))
            gradient[:, :3] += held[:, :3] * turned
            gradient[:, 3:6] += held[:, 3:] * (first_translation - translation)
            gradient[:, 6:] += prior * (start - now)
            normal += _DAMPING * torch.diag_embed(normal.diagonal(dim1=1, dim2=2) + 1.0)
            if fixed_camera:
                now = now + torch.linalg.solve(normal[:, 6:, 6:], gradient[:, 6:])
                continue
            step = torch.linalg.solve(normal, gradient)
            rotation = torch.linalg.matrix_exp(_cross(step[:, :3].clamp(-0.5, 0.5))) @ rotation
            translation = translation + step[:, 3:6].clamp(-0.3, 0.3)
            translation = torch.cat([translation[:, :2], translation[:, 2:].clamp_min(0.3)], 1)
            now = (now + step[:, 6:]).clamp(-5, 5)
        matrix = torch.cat([rotation, translation[..., None]], -1)
        matrix = torch.cat([matrix, matrix.new_tensor([0.0, 0, 0, 1]).expand(len(matrix), 1, 4)], 1)
        return pose_from_cameras(Cameras(matrix, torch.eye(3).to(matrix).expand(len(matrix), 3, 3), 1, 1)), now


def _camera_trust(pose_doubt: Tensor | None, translation: Tensor) -> Tensor:
    """Of a guessed camera with errors of pose numbers [9]: 1 / variance of turn (rad) and shift (m), [B, 6]."""
    if pose_doubt is None:
        return translation.new_zeros(len(translation), 6)
    doubt = pose_doubt.float().clamp_min(1e-3)
    turn = doubt[[5, 2, 1]].expand(len(translation), 3)  # about x, y, z near the front camera; elsewhere about as large
    depth = translation[:, 2:].abs()
    return 1 / torch.cat([turn, depth / FOCAL * doubt[6:8], depth * doubt[8:9]], 1).square()


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
    z = z.clamp_min(0.05)
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
