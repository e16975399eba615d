"""Requests from plain arguments, and answers as plain objects; shared by both clients."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from headlift.errors import InvalidInputError, ServerError
from headlift.v1 import camera_pb2, head_pb2, picture_pb2
from headlift.v1 import head_service_pb2 as pb

PictureFormat = Literal["jpeg", "png", "webp", "raw_uint8", "raw_float32"]
ExportFormat = Literal["ply", "splat", "spz", "spz_v3", "spz_v4", "glb", "wire"]
HeadLike = head_pb2.Head | str
_EXPORTS = {"spz": pb.EXPORT_FORMAT_SPZ_V3}  # what most programs read; the others are named as in the contract


@dataclass(frozen=True)
class RenderedPicture:
    """One picture as it came."""

    data: bytes
    format: PictureFormat
    width: int
    height: int
    channels: int  # 3, or 4 with opacity

    def array(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """[H, W, channels]: float32 0..1 of raw_float32, else uint8."""
        if self.format == "raw_float32":
            return np.frombuffer(self.data, "<f4").reshape(self.height, self.width, self.channels)
        if self.format == "raw_uint8":
            return np.frombuffer(self.data, np.uint8).reshape(self.height, self.width, self.channels)
        return np.asarray(Image.open(io.BytesIO(self.data)))

    def image(self) -> Image.Image:
        """For Pillow."""
        pixels = self.array()
        if pixels.dtype == np.float32:
            pixels = (pixels * 255.0 + 0.5).astype(np.uint8)
        return Image.fromarray(pixels)


@dataclass(frozen=True)
class Frame:
    """One picture of an orbit."""

    picture: RenderedPicture
    index: int  # from 0
    count: int  # frames in all
    yaw_deg: float


def camera(
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    roll_deg: float = 0.0,
    distance_m: float | None = None,
    fov_deg: float | None = None,
) -> camera_pb2.Camera:
    """A camera that looks at the head; see OrbitPose in the contract for units and ranges."""
    pose = camera_pb2.OrbitPose(
        yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg, distance_m=distance_m, fov_deg=fov_deg
    )
    return camera_pb2.Camera(orbit=pose)


def camera_from_matrices(view_matrix: npt.ArrayLike, intrinsics: npt.ArrayLike) -> camera_pb2.Camera:
    """A camera by its world-to-camera [4, 4] and intrinsics [3, 3] (OpenCV axes, pixels)."""
    pose = camera_pb2.MatrixPose(
        view_matrix=np.asarray(view_matrix, np.float64).ravel().tolist(),
        intrinsics=np.asarray(intrinsics, np.float64).ravel().tolist(),
    )
    return camera_pb2.Camera(matrix=pose)


def creation(
    tenant: str,
    picture: bytes | str | os.PathLike[str],
    *,
    several_faces: Literal["largest", "refuse"] = "largest",
    face_index: int | None = None,
    refine_steps: int | None = None,
    request_id: str | None = None,
    validate_only: bool = False,
) -> pb.CreateHeadRequest:
    """A CreateHeadRequest; without ``request_id`` it gets a new one, so that a retry never makes two heads."""
    request = pb.CreateHeadRequest(
        parent=f"tenants/{tenant}",
        picture=read_picture(picture),
        several_faces=pb.SEVERAL_FACES_REFUSE if several_faces == "refuse" else pb.SEVERAL_FACES_LARGEST,
        request_id=str(uuid.uuid4()) if request_id is None else request_id,
        validate_only=validate_only,
        face_index=face_index,
        refine_steps=refine_steps,
    )
    return request


def read_picture(picture: bytes | str | os.PathLike[str], field: str = "picture") -> bytes:
    """The bytes of a file given as itself or as a path. InvalidInputError: it cannot be read."""
    if isinstance(picture, bytes):
        return picture
    path = Path(picture)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", reason="NO_FILE", field=field) from None


def picture_options(
    width: int = 512,
    height: int = 512,
    format: PictureFormat = "png",
    quality: int = 0,
    alpha: bool = False,
    sharpen: bool | None = None,
) -> picture_pb2.PictureOptions:
    """How pictures are made; ``sharpen`` None leaves it to the server, ``quality`` 0 too."""
    names = {None: "UNSPECIFIED", True: "ON", False: "OFF"}
    return picture_pb2.PictureOptions(
        width_px=width,
        height_px=height,
        format=_value(picture_pb2.PictureFormat, "PICTURE_FORMAT_", format, "format"),
        quality=quality,
        alpha=alpha,
        sharpening=picture_pb2.Sharpening.Value(f"SHARPENING_{names[sharpen]}"),
    )


def head_name(tenant: str, head: HeadLike) -> str:
    """Full name of a head given as a message, a full name or the last segment of one."""
    name = head if isinstance(head, str) else head.name
    return name if "/" in name else f"tenants/{tenant}/heads/{name}"


def rendering(
    name: str, cameras: Sequence[camera_pb2.Camera], options: picture_pb2.PictureOptions
) -> pb.RenderHeadRequest:
    """A RenderHeadRequest."""
    return pb.RenderHeadRequest(name=name, cameras=cameras, picture=options)


def export(name: str, format: ExportFormat) -> pb.ExportHeadRequest:
    """An ExportHeadRequest."""
    value = _EXPORTS.get(format) or _value(pb.ExportFormat, "EXPORT_FORMAT_", format, "format")
    return pb.ExportHeadRequest(name=name, format=value)


def rendered(picture: picture_pb2.Picture) -> RenderedPicture:
    """A Picture message as a plain object."""
    name = picture_pb2.PictureFormat.Name(picture.format).removeprefix("PICTURE_FORMAT_").lower()
    return RenderedPicture(picture.data, name, picture.width_px, picture.height_px, picture.channel_count)  # type: ignore[arg-type]


def frame(answer: pb.RenderOrbitResponse) -> Frame:
    """A message of an orbit as a plain object."""
    return Frame(rendered(answer.picture), answer.frame_index, answer.frame_count, answer.yaw_deg)


class Download:
    """Puts the chunks of an export together and checks them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._last: pb.ExportHeadResponse | None = None

    def add(self, chunk: pb.ExportHeadResponse) -> tuple[int, int]:
        """Take a chunk; bytes so far and in all."""
        if chunk.offset_bytes != len(self._data):
            raise ServerError(
                f"A chunk begins at byte {chunk.offset_bytes} where {len(self._data)} was due; export again."
            )
        self._data += chunk.data
        self._last = chunk
        return len(self._data), chunk.total_size_bytes

    def finish(self, path: str | os.PathLike[str] | None) -> bytes:
        """The whole file, also written to ``path`` (whole or not at all).

        Raises:
            ServerError: The file is not what the server sent.
        """
        data = bytes(self._data)
        if self._last is None or hashlib.sha256(data).hexdigest() != self._last.sha256:
            raise ServerError(f"The {len(data)} bytes that came are not the file that was sent; export again.")
        if path is not None:
            _write_whole(Path(path), data)
        return data


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written: {error.strerror}.", reason="NO_FILE", field="path"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _value(enum: Any, prefix: str, name: str, field: str) -> Any:
    """Number of an enum value by its short name."""
    try:
        return enum.Value(prefix + name.upper())
    except ValueError:
        known = ", ".join(k.removeprefix(prefix).lower() for k in enum.keys()[1:])
        raise InvalidInputError(f"{field} is {name!r}; it must be one of {known}.", field=field) from None
