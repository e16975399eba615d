"""Model types <-> protobuf: the only place where a message becomes a tensor or the other way round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from headlift.errors import FormatError, InvalidCameraError
from headlift.limits import SIDE_MAX, SIDE_MIN
from headlift.model.cameras import orbit_cameras
from headlift.model.types import DISTANCE, Cameras, Gaussians, ImageTokens, Observation, Portrait
from headlift.v1 import camera_pb2, head_pb2, stage_pb2, tensor_pb2

DISTANCE_LIMITS_M = (0.15, 20.0)
FOV_LIMITS_DEG = (1.0, 170.0)
ANGLE_LIMIT_DEG = 3600.0
_OFFSET_MAX_M = 1000.0
_FOCAL_MAX_PX = 1e7
_ROTATION_TOLERANCE = 1e-3
_AXES_MAX = 8
_DTYPES = {
    tensor_pb2.DATA_TYPE_FLOAT32: torch.float32,
    tensor_pb2.DATA_TYPE_FLOAT16: torch.float16,
    tensor_pb2.DATA_TYPE_BFLOAT16: torch.bfloat16,
    tensor_pb2.DATA_TYPE_FLOAT64: torch.float64,
    tensor_pb2.DATA_TYPE_INT64: torch.int64,
    tensor_pb2.DATA_TYPE_UINT8: torch.uint8,
    tensor_pb2.DATA_TYPE_BOOL: torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Of an Observation: its field, the message's, and the shape. Either all are sent or none.
_OBSERVATION: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("code", "code", (1, -1)),
    ("pixels", "pixels", (1, 4, -1, -1)),
    ("parsing", "parsing", (1, 6, -1, -1)),
    ("deformation", "warp", (1, 2, -1, -1)),
)


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


# -- what flows between stages ----------------------------------------------------------------------------------------


def message_from_tensor(tensor: Tensor) -> tensor_pb2.Tensor:
    """A tensor of any device and layout as it is, to the last bit."""
    plain = tensor.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return tensor_pb2.Tensor(dtype=_DTYPE_NAMES[plain.dtype], shape=list(plain.shape), data=data)


def tensor_from_message(message: tensor_pb2.Tensor, field: str, *shape: int, kind: str = "float") -> Tensor:
    """The tensor, on the CPU; its memory is its own.

    Args:
        message: What came.
        field: Its dotted path, for the error.
        shape: Length that each axis must have; -1 takes any.
        kind: ``float`` or ``bool``.

    Raises:
        FormatError: Another kind of number, another shape, too few or too many bytes, or numbers that are not finite.
    """
    dtype, actual = _DTYPES.get(message.dtype), tuple(message.shape)
    if dtype is None or (dtype.is_floating_point if kind == "float" else dtype is torch.bool) is False:
        wanted = "floats" if kind == "float" else "booleans"
        raise FormatError(f"{field} is of type {message.dtype}; {wanted} are needed.", field=field)
    if len(actual) != len(shape) or any(n < 0 or w not in (n, -1) for n, w in zip(actual, shape, strict=True)):
        wanted = "x".join("n" if w == -1 else str(w) for w in shape)
        raise FormatError(f"{field} has the shape {list(actual[:_AXES_MAX])}; {wanted} is needed.", field=field)
    size = math.prod(actual) * dtype.itemsize
    if len(message.data) != size:
        raise FormatError(f"{field} has {len(message.data)} bytes; its type and shape need {size}.", field=field)
    if not size:
        return torch.zeros(actual, dtype=dtype)
    if dtype is torch.bool:  # other bytes than 0 and 1 would be undefined behaviour
        return torch.frombuffer(bytearray(message.data), dtype=torch.uint8).view(actual) != 0
    tensor = torch.frombuffer(bytearray(message.data), dtype=dtype).view(actual)
    if not bool(torch.isfinite(tensor).all()):
        raise FormatError(f"{field} holds numbers that are not finite.", field=field)
    return tensor


def message_from_cameras(cameras: Cameras) -> stage_pb2.CameraSet:
    """All cameras of a set."""
    return stage_pb2.CameraSet(
        view_matrices=message_from_tensor(cameras.viewmats),
        intrinsics=message_from_tensor(cameras.Ks),
        width_px=cameras.width,
        height_px=cameras.height,
    )


def cameras_from_message(message: stage_pb2.CameraSet, field: str, count: int = -1) -> Cameras:
    """Inverse of ``message_from_cameras``.

    Raises:
        FormatError: The tensors do not fit, or are not ``count``.
        InvalidCameraError: No picture can be taken with them.
    """
    viewmats = tensor_from_message(message.view_matrices, f"{field}.view_matrices", count, 4, 4)
    Ks = tensor_from_message(message.intrinsics, f"{field}.intrinsics", len(viewmats), 3, 3)
    try:
        return Cameras(viewmats, Ks, message.width_px, message.height_px).validate()
    except InvalidCameraError as error:
        error.field = field
        raise


def message_from_portrait(portrait: Portrait) -> stage_pb2.Portrait:
    """A portrait as it is, to the last bit."""
    width, height = portrait.source_size or (0, 0)
    return stage_pb2.Portrait(
        image=message_from_tensor(portrait.image),
        alpha=message_from_tensor(portrait.alpha),
        crop_from_source=message_from_tensor(portrait.crop_from_source),
        camera=message_from_cameras(portrait.camera) if portrait.camera is not None else None,
        source_width_px=width,
        source_height_px=height,
    )


def portrait_from_message(message: stage_pb2.Portrait, field: str = "portrait") -> Portrait:
    """Inverse of ``message_from_portrait``.

    Raises:
        FormatError: The tensors do not fit together, or hold what is no picture.
        InvalidCameraError: The camera cannot have taken a picture.
    """
    image = tensor_from_message(message.image, f"{field}.image", 3, -1, -1)
    side = image.shape[-1]
    if image.shape[-2] != side or not SIDE_MIN <= side <= SIDE_MAX:
        raise FormatError(
            f"{field}.image is {side}x{image.shape[-2]}; it must be square, {SIDE_MIN}..{SIDE_MAX}.",
            field=f"{field}.image",
        )
    alpha = tensor_from_message(message.alpha, f"{field}.alpha", 1, side, side)
    for name, values in (("image", image), ("alpha", alpha)):
        low, high = (float(v) for v in values.aminmax())
        if low < 0.0 or high > 1.0:
            raise FormatError(f"{field}.{name} spans {low:.3g}..{high:.3g}; it must lie in 0..1.", field=field)
    crop = tensor_from_message(message.crop_from_source, f"{field}.crop_from_source", 2, 3)
    camera = cameras_from_message(message.camera, f"{field}.camera", 1) if message.HasField("camera") else None
    size = (message.source_width_px, message.source_height_px)
    return Portrait(image, alpha, crop, camera, size if min(size) > 0 else None)


def message_from_tokens(tokens: ImageTokens) -> stage_pb2.ImageTokens:
    """Tokens as they are, to the last bit."""
    message = stage_pb2.ImageTokens()
    for name in ("tokens", "mask", "positions"):
        getattr(message, name).CopyFrom(message_from_tensor(getattr(tokens, name)))
    if tokens.observation is not None:
        for own, name, _ in _OBSERVATION:
            getattr(message, name).CopyFrom(message_from_tensor(getattr(tokens.observation, own)))
    if tokens.camera is not None:
        message.cameras.CopyFrom(message_from_cameras(tokens.camera))
    return message


def tokens_from_message(message: stage_pb2.ImageTokens, field: str = "tokens") -> ImageTokens:
    """Inverse of ``message_from_tokens``, for one portrait (B = 1).

    Raises:
        FormatError: The tensors do not fit together.
        InvalidCameraError: The camera cannot have taken a picture.
    """
    tokens = tensor_from_message(message.tokens, f"{field}.tokens", 1, -1, -1)
    count = tokens.shape[1]
    return ImageTokens(
        tokens=tokens,
        mask=tensor_from_message(message.mask, f"{field}.mask", 1, count, kind="bool"),
        positions=tensor_from_message(message.positions, f"{field}.positions", 1, count, 2),
        camera=cameras_from_message(message.cameras, f"{field}.cameras", 1) if message.HasField("cameras") else None,
        observation=_observation(message, field),
    )


def _observation(message: stage_pb2.ImageTokens, field: str) -> Observation | None:
    """The observation in a message of tokens; FormatError where only some of it was sent."""
    present = {descriptor.name for descriptor, _ in message.ListFields()}
    sent = [name for _, name, _ in _OBSERVATION if name in present]
    if not sent:
        return None
    if missing := [name for _, name, _ in _OBSERVATION if name not in sent]:
        raise FormatError(
            f"{field} has {sent[0]} but no {missing[0]}; send all or none.", field=f"{field}.{missing[0]}"
        )
    parts = {
        own: tensor_from_message(getattr(message, name), f"{field}.{name}", *shape) for own, name, shape in _OBSERVATION
    }
    return Observation(**parts)
