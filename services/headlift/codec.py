"""Model types <-> protobuf: the only place where a message becomes a tensor or the other way round."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from headlift.errors import InvalidCameraError
from headlift.model.cameras import orbit_cameras
from headlift.model.types import DISTANCE, Cameras, Gaussians
from headlift.v1 import camera_pb2, head_pb2

DISTANCE_LIMITS_M = (0.15, 20.0)
FOV_LIMITS_DEG = (1.0, 170.0)
ANGLE_LIMIT_DEG = 3600.0
_OFFSET_MAX_M = 1000.0
_FOCAL_MAX_PX = 1e7
_ROTATION_TOLERANCE = 1e-3


def cameras_from_messages(messages: Sequence[camera_pb2.Camera], width: int, height: int) -> Cameras:
    """Cameras of ``width`` x ``height`` pixels, one per message; no message means one camera in front of the face.

    Raises:
        InvalidCameraError: A value is out of range; ``field`` says which.
    """
    cameras = [_camera(m, width, height, f"cameras[{i}]") for i, m in enumerate(messages or [camera_pb2.Camera()])]
    viewmats, Ks = torch.cat([c.viewmats for c in cameras]), torch.cat([c.Ks for c in cameras])
    return Cameras(viewmats, Ks, width, height)


def orbit(
    pose: camera_pb2.OrbitPose, width: int, height: int, field: str = "", yaws_deg: Sequence[float] = ()
) -> Cameras:
    """The camera of an orbit pose, or one for each of ``yaws_deg`` in place of its own yaw; see above for errors."""
    distance = pose.distance_m if pose.HasField("distance_m") else DISTANCE
    fov = pose.fov_deg if pose.HasField("fov_deg") else None
    prefix = f"{field}." if field else ""
    _check(prefix + "yaw_deg", pose.yaw_deg, -ANGLE_LIMIT_DEG, ANGLE_LIMIT_DEG, "degrees")
    _check(prefix + "pitch_deg", pose.pitch_deg, -90.0, 90.0, "degrees")
    _check(prefix + "roll_deg", pose.roll_deg, -ANGLE_LIMIT_DEG, ANGLE_LIMIT_DEG, "degrees")
    _check(prefix + "distance_m", distance, *DISTANCE_LIMITS_M, "metres")
    if fov is not None:
        _check(prefix + "fov_deg", fov, *FOV_LIMITS_DEG, "degrees")
    return orbit_cameras(
        yaws_deg or [pose.yaw_deg],
        pose.pitch_deg,
        rolls=pose.roll_deg,
        distance_m=distance,
        fov_deg=fov,
        width=width,
        height=height,
    )


def message_from_camera(camera: Cameras) -> camera_pb2.MatrixPose:
    """One camera (C = 1) as matrices."""
    return camera_pb2.MatrixPose(
        view_matrix=camera.viewmats[0].double().flatten().tolist(),
        intrinsics=camera.Ks[0].double().flatten().tolist(),
    )


def matrix(pose: camera_pb2.MatrixPose, width: int, height: int, field: str = "") -> Cameras:
    """The camera of two matrices; see ``cameras_from_messages``."""
    prefix = f"{field}." if field else ""
    view = _numbers(pose.view_matrix, 4, prefix + "view_matrix")
    K = _numbers(pose.intrinsics, 3, prefix + "intrinsics")
    rotation = view[:3, :3]
    error = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if error > _ROTATION_TOLERANCE or float(torch.linalg.det(rotation)) < 0.0:
        raise _bad(prefix + "view_matrix", "its upper left 3x3 must be a rotation (orthonormal, determinant +1)")
    if view[3].tolist() != [0.0, 0.0, 0.0, 1.0] or float(view[:3, 3].abs().max()) > _OFFSET_MAX_M:
        raise _bad(prefix + "view_matrix", f"its last row must be 0 0 0 1 and its offset within {_OFFSET_MAX_M:g} m")
    fx, fy, skew = float(K[0, 0]), float(K[1, 1]), float(K[0, 1])
    if not (0.0 < fx <= _FOCAL_MAX_PX and 0.0 < fy <= _FOCAL_MAX_PX) or float(K[:2, 2].abs().max()) > _FOCAL_MAX_PX:
        raise _bad(prefix + "intrinsics", f"focal lengths must lie in 0..{_FOCAL_MAX_PX:g} pixels (above 0)")
    if skew != 0.0 or float(K[1, 0]) != 0.0 or K[2].tolist() != [0.0, 0.0, 1.0]:
        raise _bad(prefix + "intrinsics", "it must read fx 0 cx, 0 fy cy, 0 0 1 (no skew)")
    return Cameras(view[None].float(), K[None].float(), width, height).validate()


def bounding_box(gaussians: Gaussians) -> head_pb2.BoundingBox:
    """The box of all centres."""
    low, high = gaussians.means.double().aminmax(dim=0)
    return head_pb2.BoundingBox(min_m=low.tolist(), max_m=high.tolist())


def _camera(message: camera_pb2.Camera, width: int, height: int, field: str) -> Cameras:
    if message.WhichOneof("pose") == "matrix":
        return matrix(message.matrix, width, height, f"{field}.matrix")
    return orbit(message.orbit, width, height, f"{field}.orbit")


def _numbers(values: Sequence[float], side: int, field: str) -> torch.Tensor:
    """[side, side] float64 of finite numbers."""
    if len(values) != side * side:
        raise _bad(field, f"it must have {side * side} numbers, row by row, and has {len(values)}")
    matrix = torch.tensor(list(values), dtype=torch.float64).reshape(side, side)
    if not bool(torch.isfinite(matrix).all()):
        raise _bad(field, "all its numbers must be finite")
    return matrix


def _check(field: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:  # also refuses what is not a number
        raise InvalidCameraError(f"{field} is {value:g}; it must lie in {low:g}..{high:g} {unit}.", field=field)


def _bad(field: str, wanted: str) -> InvalidCameraError:
    return InvalidCameraError(f"{field} cannot be used: {wanted}.", field=field)
