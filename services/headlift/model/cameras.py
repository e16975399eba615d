"""Cameras around the head, and the nine numbers that a network estimates of one.

An orbit camera stands on a sphere about ``center`` and looks at it: yaw + moves it toward +X (the
head's own left), pitch + moves it up, roll + turns it clockwise about its optical axis, so that the
head leans counter-clockwise in the picture. Legend: C cameras.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidCameraError
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER, Cameras

POSE_DIM = 9
NEAR_M = 0.05  # what is nearer to a camera, or behind it, is projected as if it were that far
FRONTAL_POSE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)  # the pose of the front camera of the portrait crop
_FRONT = (1.0, -1.0, -1.0)  # diagonal of the front camera's rotation: OpenCV axes against the head's


def orbit_cameras(
    yaws: Sequence[float],
    pitches: Sequence[float] | float = 0.0,
    *,
    rolls: Sequence[float] | float = 0.0,
    distance_m: Sequence[float] | float = DISTANCE,
    fov_deg: float | None = None,
    width: int = 512,
    height: int = 512,
    center: tuple[float, float, float] = HEAD_CENTER,
) -> Cameras:
    """C cameras on a sphere about ``center``, looking at it.

    Args:
        yaws: C angles in degrees; 0 is in front of the face, 90 at its left ear.
        pitches: C angles in degrees, or one for all; 90 is straight above (the face points down in the picture).
        rolls: C angles in degrees, or one for all.
        distance_m: C distances from ``center``, or one for all; metres, > 0.
        fov_deg: Full angle across the shorter side of the picture, 0..180 exclusive; None is the portrait crop's.
        width: Picture width, pixels.
        height: Picture height, pixels.
        center: Point that every camera looks at; metres, canonical head frame.

    Returns:
        Cameras with square pixels and the principal point in the middle.

    Raises:
        InvalidCameraError: The lists differ in length, or a value is out of range.
    """
    yaw, pitch, roll, distance = _broadcast(yaws, pitches, rolls, distance_m)
    if len(distance) and not float(distance.min()) > 0.0:
        raise InvalidCameraError(f"distance_m is {float(distance.min()):.3g} m; it must be > 0.", field="distance_m")
    if fov_deg is not None and not 0.0 < fov_deg < 180.0:
        raise InvalidCameraError(f"fov_deg is {fov_deg:.3g}; it must lie between 0 and 180 degrees.", field="fov_deg")
    sy, cy, sp, cp = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()
    forward = torch.stack([-sy * cp, -sp, -cy * cp], -1)
    right = torch.stack([cy, torch.zeros_like(cy), -sy], -1)  # from yaw alone: defined at the poles too
    rotation = _rolled(right, torch.linalg.cross(forward, right), forward, roll)
    eyes = torch.tensor(center, dtype=torch.float64) - forward * distance[:, None]
    focal = FOCAL if fov_deg is None else 0.5 / math.tan(math.radians(fov_deg) / 2)
    return _cameras(rotation, eyes, focal * min(width, height), width, height)


def orbit_camera(yaw_deg: float, pitch_deg: float = 0.0, *, roll_deg: float = 0.0, size: int = 512) -> Cameras:
    """The portrait-crop camera (C = 1) at one yaw and pitch in degrees, ``size`` pixels a side."""
    return orbit_cameras([yaw_deg], pitch_deg, rolls=roll_deg, width=size, height=size)


def look_at(
    eyes: Tensor,  # [C, 3] m
    target: tuple[float, float, float] = HEAD_CENTER,
    *,
    focal: float = FOCAL,
    width: int = 512,
    height: int = 512,
) -> Cameras:
    """C upright cameras at ``eyes`` that look at ``target``; ``focal`` is in lengths of the picture's shorter side.

    Raises:
        InvalidCameraError: An eye coincides with the target.
    """
    eyes = eyes.double()
    offset = torch.tensor(target, dtype=torch.float64, device=eyes.device) - eyes
    if len(eyes) and float(offset.norm(dim=-1).min()) < 1e-9:
        raise InvalidCameraError("A camera stands at the point that it looks at; move it away.")
    forward = F.normalize(offset, dim=-1)
    yaw = torch.atan2(-forward[:, 0], -forward[:, 2])
    right = torch.stack([yaw.cos(), torch.zeros_like(yaw), -yaw.sin()], -1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], -2)
    return _cameras(rotation, eyes, focal * min(width, height), width, height)


def cameras_from_pose(
    pose: Tensor,  # [C, 9]
    size: int,
) -> Cameras:
    """The cameras that pose numbers stand for, with ``size`` x ``size`` pictures and the portrait crop's focal length.

    A pose is six numbers of rotation (two rows, made orthonormal: Zhou et al., CVPR 2019) relative to the
    front camera, the projection of HEAD_CENTER off the picture's middle (right, down; picture widths), and
    log(distance / DISTANCE). Differentiable.
    """
    first = F.normalize(pose[:, 0:3], dim=-1)
    second = F.normalize(pose[:, 3:6] - (first * pose[:, 3:6]).sum(-1, keepdim=True) * first, dim=-1)
    relative = torch.stack([first, second, torch.linalg.cross(first, second)], -2)
    rotation = relative * pose.new_tensor(_FRONT)
    ray = F.normalize(torch.cat([pose[:, 6:8] / FOCAL, torch.ones_like(pose[:, :1])], -1), dim=-1)
    center_cam = ray * (DISTANCE * pose[:, 8:9].exp())
    translation = center_cam - rotation @ pose.new_tensor(HEAD_CENTER)
    return Cameras(_viewmats(rotation, translation), _intrinsics(pose, FOCAL * size, size, size), size, size)


def pose_from_cameras(cameras: Cameras) -> Tensor:
    """Inverse of ``cameras_from_pose`` -> [C, 9], for cameras of the portrait crop's intrinsics in front of the head.

    Cameras of another focal length or principal point are read as if they had the crop's: only where they stand
    and how they are turned counts.
    """
    rotation, translation = cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3]
    relative = rotation / rotation.new_tensor(_FRONT)
    center_cam = rotation @ rotation.new_tensor(HEAD_CENTER) + translation
    off_center = FOCAL * center_cam[:, :2] / center_cam[:, 2:]
    log_distance = (center_cam.norm(dim=-1, keepdim=True) / DISTANCE).log()
    return torch.cat([relative[:, :2].flatten(1), off_center, log_distance], -1)


def project(
    cameras: Cameras,
    points: Tensor,  # [C, n, 3] m
    nearest_m: float = NEAR_M,
) -> tuple[Tensor, Tensor]:
    """Where each camera sees its points: places [C, n, 2] in 0..1 of the picture (x, y), and depths [C, n] m.

    Points behind the camera, or nearer than ``nearest_m``, are projected as if they were that far.
    """
    in_camera = points @ cameras.viewmats[:, :3, :3].mT + cameras.viewmats[:, None, :3, 3]
    depth = in_camera[..., 2]
    pixels = in_camera @ cameras.Ks.mT
    size = points.new_tensor([cameras.width, cameras.height])
    return pixels[..., :2] / depth.clamp_min(nearest_m)[..., None] / size, depth


def _broadcast(yaws: Sequence[float], *others: Sequence[float] | float) -> list[Tensor]:
    """Angles in radians and distances as float64 [C]; a scalar serves all cameras."""
    count = len(yaws)
    columns = []
    for values in (yaws, *others):
        column = [float(values)] * count if isinstance(values, (int, float)) else [float(v) for v in values]
        if len(column) != count:
            raise InvalidCameraError(
                f"{count} yaws but {len(column)} of another camera value; give one each, or one for all."
            )
        if not all(map(math.isfinite, column)):
            raise InvalidCameraError("A camera value is not finite.")
        columns.append(torch.tensor(column, dtype=torch.float64))
    return [c.deg2rad() for c in columns[:-1]] + [columns[-1]]


def _rolled(right: Tensor, down: Tensor, forward: Tensor, roll: Tensor) -> Tensor:
    """World-to-camera rotation [C, 3, 3] of axes turned about ``forward`` by ``roll`` radians."""
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    return torch.stack([cos * right + sin * down, cos * down - sin * right, forward], -2)


def _cameras(rotation: Tensor, eyes: Tensor, focal_px: float, width: int, height: int) -> Cameras:
    """Float32 cameras of a rotation and a standpoint."""
    translation = -(rotation @ eyes[..., None])[..., 0]
    viewmats = _viewmats(rotation, translation).float()
    return Cameras(viewmats, _intrinsics(viewmats, focal_px, width, height), width, height).validate()


def _viewmats(rotation: Tensor, translation: Tensor) -> Tensor:
    """[C, 4, 4] from [C, 3, 3] and [C, 3]."""
    top = torch.cat([rotation, translation[..., None]], -1)
    last = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(rotation), 1, 4)
    return torch.cat([top, last], -2)


def _intrinsics(like: Tensor, focal_px: float, width: int, height: int) -> Tensor:
    """[C, 3, 3] with the principal point in the middle of the picture."""
    K = like.new_tensor([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])
    return K.expand(len(like), 3, 3).clone()
