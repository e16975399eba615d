"""headlift.v1.RenderService: decode, compute, reply."""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from headlift.codec import cameras_from_message, message_from_tensor
from headlift.errors import BackendUnavailableError, FormatError, InvalidCameraError
from headlift.model.types import Cameras, Gaussians
from headlift.render.messages import look_from_message
from headlift.render.pictures import SIZE_MAX, SIZE_MIN, Look
from headlift.render.stage import Render
from headlift.store.recent_heads import RecentHeads
from headlift.v1 import render_service_pb2 as pb

NOT_HELD = "HEAD_NOT_HELD"
CAMERAS_MAX, KEY_MAX = 64, 200
VIEWS_BYTES_MAX = 64 << 20
_FLOATS_PER_PIXEL = 4  # red, green, blue, opacity


class Painter(Protocol):
    """What takes packed pictures."""

    def paint(self, head: Gaussians, cameras: Cameras, look: Look, token: Any) -> pb.RenderResponse:
        """One picture per camera; blocks."""
        ...


class RenderAnswer:
    """The stage, message to message; blocks."""

    def __init__(
        self, render: Render, painter: Painter, held: RecentHeads, unpack: Callable[[bytes], Gaussians]
    ) -> None:
        """``held`` keeps heads by key; ``unpack`` reads the wire codec."""
        self._render, self._painter, self._held, self._unpack = render, painter, held, unpack

    def __call__(self, request: pb.RenderRequest, token: Any) -> pb.RenderResponse:
        """Take views or pictures of a head that came along, or came before."""
        cameras = _cameras(request)
        head = self._head(request)
        if request.HasField("picture"):
            look = look_from_message(request.picture)
            if (look.width, look.height) != (cameras.width, cameras.height):
                raise InvalidCameraError(
                    f"The pictures are to have {look.width}x{look.height} pixels and the cameras {cameras.width}x"
                    f"{cameras.height}; give both the same size.",
                    field="picture.width_px",
                )
            return self._painter.paint(head, cameras, look, token)
        begin = time.perf_counter()
        views = self._render(head, cameras)
        answer = pb.RenderResponse(rgb=message_from_tensor(views.rgb), alpha=message_from_tensor(views.alpha))
        answer.stage_timings.add(stage="render", duration_ms=(time.perf_counter() - begin) * 1e3)
        return answer

    def _head(self, request: pb.RenderRequest) -> Gaussians:
        key = request.head_key
        if len(key) > KEY_MAX or not (key or request.gaussians):
            raise FormatError(f"head_key has {len(key)} characters; 1..{KEY_MAX} are needed.", field="head_key")
        head = self._held.get(key) if key else None
        if head is None and not request.gaussians:
            raise BackendUnavailableError(
                "No head of this key is in memory here; send its gaussians with the key.", reason=NOT_HELD
            )
        if head is None:
            head = self._unpack(request.gaussians)
            if key:
                self._held.put(key, head)
        return head


class RenderServicer:
    """The RPCs of RenderService, over the stage here or elsewhere."""

    def __init__(self, call: Callable[[pb.RenderRequest], Awaitable[pb.RenderResponse]]) -> None:
        self._call = call

    async def Render(self, request: pb.RenderRequest, context: object) -> pb.RenderResponse:
        """See the contract. Keys of one caller are of no use to another."""
        if request.head_key:
            tenant = getattr(getattr(context, "caller", None), "tenant", "")
            request.head_key = f"{tenant}|{request.head_key}"
        return await self._call(request)


def _cameras(request: pb.RenderRequest) -> Cameras:
    cameras = cameras_from_message(request.cameras, "cameras")
    sides, size = (cameras.width, cameras.height), len(cameras) * cameras.width * cameras.height * _FLOATS_PER_PIXEL * 4
    if not 1 <= len(cameras) <= CAMERAS_MAX or min(sides) < SIZE_MIN or max(sides) > SIZE_MAX or size > VIEWS_BYTES_MAX:
        raise InvalidCameraError(
            f"{len(cameras)} cameras of {cameras.width}x{cameras.height} pixels; 1..{CAMERAS_MAX} cameras, "
            f"{SIZE_MIN}..{SIZE_MAX} pixels a side and {VIEWS_BYTES_MAX} bytes of float views are possible.",
            field="cameras",
        )
    return cameras
