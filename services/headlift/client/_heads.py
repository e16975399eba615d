"""Calls of HeadService; every function is a method of both clients."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headlift.client._calls import Gathered, Pages, Stream, Unary, pages
from headlift.client._pictures import (
    PictureFile,
    PictureFormat,
    RenderedPicture,
    enum_value,
    picture_of,
    picture_options,
    read_file,
    write_file,
)
from headlift.errors import InvalidInputError, ServerError
from headlift.v1 import camera_pb2, head_pb2
from headlift.v1 import head_service_pb2 as pb

if TYPE_CHECKING:
    import numpy.typing as npt

ExportFormat = Literal[
    "ply", "ply_compact", "ply_compressed", "splat", "spz", "spz_v3", "spz_v4", "sog", "glb", "usdz", "html", "wire"
]
HeadLike = head_pb2.Head | str  # a message, a full name, or the last segment of one
_EXPORTS = {"spz": pb.EXPORT_FORMAT_SPZ_V3}  # what most programs read; the others are named as in the contract


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
    """A camera that faces the head; see OrbitPose in the contract for units and ranges."""
    pose = camera_pb2.OrbitPose(
        yaw_deg=yaw_deg, pitch_deg=pitch_deg, roll_deg=roll_deg, distance_m=distance_m, fov_deg=fov_deg
    )
    return camera_pb2.Camera(orbit=pose)


def camera_from_matrices(view_matrix: npt.ArrayLike, intrinsics: npt.ArrayLike) -> camera_pb2.Camera:
    """A camera by its world-to-camera [4, 4] and intrinsics [3, 3] (OpenCV axes, pixels)."""
    import numpy as np

    pose = camera_pb2.MatrixPose(
        view_matrix=np.asarray(view_matrix, np.float64).ravel().tolist(),
        intrinsics=np.asarray(intrinsics, np.float64).ravel().tolist(),
    )
    return camera_pb2.Camera(matrix=pose)


def head_name(tenant: str, head: HeadLike) -> str:
    """Full name of a head."""
    name = head if isinstance(head, str) else head.name
    return name if "/" in name else f"tenants/{tenant}/heads/{name}"


def new_request_id(given: str | None) -> str:
    """The caller's id of a request, or a new one: with it a retry whose answer was lost never does the work twice."""
    return str(uuid.uuid4()) if given is None else given


def create_head(
    tenant: str,
    picture: PictureFile,
    *,
    several_faces: Literal["largest", "refuse"] = "largest",
    face_index: int | None = None,
    refine_steps: int | None = None,
    request_id: str | None = None,
    validate_only: bool = False,
    timeout_s: float | None = None,
) -> Unary[head_pb2.Head]:
    """Make a head of a portrait.

    Args:
        picture: The file, or its path.
        several_faces: Take the largest face, or refuse.
        face_index: Which face, from 0, by size; None decides by ``several_faces``.
        refine_steps: 0..1000; None leaves it to the server.
        request_id: Names the request, a UUID; a new one where it is None.
        validate_only: Only check the portrait; nothing is stored.
        timeout_s: Time that the call may take.
    """
    request = pb.CreateHeadRequest(
        parent=f"tenants/{tenant}",
        picture=read_file(picture),
        several_faces=pb.SEVERAL_FACES_REFUSE if several_faces == "refuse" else pb.SEVERAL_FACES_LARGEST,
        request_id=new_request_id(request_id),
        validate_only=validate_only,
        face_index=face_index,
        refine_steps=refine_steps,
    )
    return Unary(lambda stubs: stubs.heads.CreateHead, request, lambda response: response.head, timeout_s)


def get_head(tenant: str, head: HeadLike, *, timeout_s: float | None = None) -> Unary[head_pb2.Head]:
    """What is known about a head."""
    request = pb.GetHeadRequest(name=head_name(tenant, head))
    return Unary(lambda stubs: stubs.heads.GetHead, request, lambda response: response.head, timeout_s)


def list_heads(tenant: str, *, page_size: int = 0, timeout_s: float | None = None) -> Pages[head_pb2.Head]:
    """All heads of the tenant, oldest first; pages are fetched as they are needed."""
    request = pb.ListHeadsRequest(parent=f"tenants/{tenant}", page_size=page_size)
    return pages(lambda stubs: stubs.heads.ListHeads, request, lambda page: page.heads, timeout_s)


def delete_head(tenant: str, head: HeadLike, *, timeout_s: float | None = None) -> Unary[None]:
    """Delete a head and everything derived from its portrait."""
    request = pb.DeleteHeadRequest(name=head_name(tenant, head))
    return Unary(lambda stubs: stubs.heads.DeleteHead, request, lambda _: None, timeout_s)


def render(
    tenant: str,
    head: HeadLike,
    cameras: Sequence[camera_pb2.Camera] = (),
    *,
    width: int = 512,
    height: int = 512,
    format: PictureFormat = "png",
    quality: int = 0,
    alpha: bool = False,
    sharpen: bool | None = None,
    timeout_s: float | None = None,
) -> Unary[list[RenderedPicture]]:
    """Pictures of a head, one per camera; without cameras one from the front.

    Args:
        head: Which.
        cameras: Of ``camera`` or ``camera_from_matrices``.
        width: Pixels.
        height: Pixels.
        format: How they are packed.
        quality: Of JPEG and WebP, 1..100; 0 leaves it to the server.
        alpha: With opacity (PNG, WebP, raw).
        sharpen: None leaves it to the server.
        timeout_s: Time that the call may take.
    """
    options = picture_options(width, height, format, quality, alpha, sharpen)
    request = pb.RenderHeadRequest(name=head_name(tenant, head), cameras=cameras, picture=options)
    return Unary(
        lambda stubs: stubs.heads.RenderHead,
        request,
        lambda response: [picture_of(picture) for picture in response.pictures],
        timeout_s,
    )


def orbit(
    tenant: str,
    head: HeadLike,
    frame_count: int = 0,
    *,
    start_yaw_deg: float = 0.0,
    sweep_deg: float | None = None,
    pitch_deg: float = 0.0,
    distance_m: float | None = None,
    fov_deg: float | None = None,
    width: int = 512,
    height: int = 512,
    format: PictureFormat = "png",
    quality: int = 0,
    alpha: bool = False,
    sharpen: bool | None = None,
    timeout_s: float | None = None,
) -> Stream[Frame]:
    """Pictures along a circle, as they are made; leaving the loop early ends the work."""
    request = pb.RenderOrbitRequest(
        name=head_name(tenant, head),
        frame_count=frame_count,
        start_yaw_deg=start_yaw_deg,
        sweep_deg=sweep_deg,
        pitch_deg=pitch_deg,
        distance_m=distance_m,
        fov_deg=fov_deg,
        picture=picture_options(width, height, format, quality, alpha, sharpen),
    )
    return Stream(lambda stubs: stubs.heads.RenderOrbit, request, _frame, timeout_s)


def export(
    tenant: str,
    head: HeadLike,
    format: ExportFormat,
    *,
    path: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    sharpen: Literal["bake"] | None = None,
    bake_progress: Callable[[float], None] | None = None,
    timeout_s: float | None = None,
) -> Gathered[bytes]:
    """A head as a file, also written to ``path``.

    Args:
        head: Which.
        format: Kind of file.
        path: Where to write it, too.
        progress: Called with bytes so far and in all.
        sharpen: ``bake`` fits the Gaussians to sharpened views first, so that the file looks like the server's
            pictures; 10 to 40 s on two cores.
        bake_progress: Called with the share of that fit which is done, 0..1.
        timeout_s: Time that the call may take.
    """
    if sharpen not in (None, "bake"):
        raise InvalidInputError(f"sharpen is {sharpen!r}; it must be 'bake' or None.", field="sharpen")
    sharpening = pb.EXPORT_SHARPENING_BAKE if sharpen == "bake" else pb.EXPORT_SHARPENING_UNSPECIFIED
    value = _EXPORTS.get(format) or enum_value(pb.ExportFormat, "EXPORT_FORMAT_", format, "format")
    request = pb.ExportHeadRequest(name=head_name(tenant, head), format=value, sharpening=sharpening)
    download = Download(path, progress, bake_progress)
    return Gathered(Stream(lambda stubs: stubs.heads.ExportHead, request, download.add, timeout_s), download.finish)


class Download:
    """Puts the chunks of an export together and checks them."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        bake_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._path, self._progress, self._bake_progress = path, progress, bake_progress
        self._data = bytearray()
        self._sha256 = ""

    def add(self, chunk: pb.ExportHeadResponse) -> None:
        """Take a chunk. ServerError: it is not the next one."""
        if not chunk.data and not chunk.sha256:  # a report on the fit before the file
            if self._bake_progress is not None:
                self._bake_progress(chunk.bake_progress)
            return
        if chunk.offset_bytes != len(self._data):
            raise ServerError(
                f"A chunk begins at byte {chunk.offset_bytes} where {len(self._data)} was due; export again."
            )
        self._data += chunk.data
        self._sha256 = chunk.sha256
        if self._progress is not None:
            self._progress(len(self._data), chunk.total_size_bytes)

    def finish(self) -> bytes:
        """The whole file, also written to the path. ServerError: it is not what the server sent."""
        data = bytes(self._data)
        if hashlib.sha256(data).hexdigest() != self._sha256:
            raise ServerError(f"The {len(data)} bytes that came are not the file that was sent; export again.")
        if self._path is not None:
            write_file(Path(self._path), data)
        return data


def _frame(response: pb.RenderOrbitResponse) -> Frame:
    return Frame(picture_of(response.picture), response.frame_index, response.frame_count, response.yaw_deg)
