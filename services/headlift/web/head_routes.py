"""Heads over HTTP: create, list, render, export, delete."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from headlift.client import Frame, camera, camera_from_matrices
from headlift.errors import InvalidInputError
from headlift.media.video import write_video
from headlift.stages import progress
from headlift.v1 import camera_pb2, head_pb2
from headlift.web.context import AppContext, cancel_on_disconnect, context_of
from headlift.web.requests import IMAGE_TYPES, integer, number, read_body, read_json
from headlift.web.responses import error_dict, event, head_dict

_EVENTS = "text/event-stream"
_MEDIA_TYPES = {
    "ply": "application/octet-stream",
    "splat": "application/octet-stream",
    "spz": "application/octet-stream",
    "sog": "application/octet-stream",
    "glb": "model/gltf-binary",
    "html": "text/html; charset=utf-8",
}
_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}


async def create_head(request: Request) -> Response:
    """Make a head of a portrait; progress and the answer as server-sent events, or the answer alone as JSON."""
    context = context_of(request)
    context.sessions.visitor(request)  # before the upload is read
    image = await read_body(request, IMAGE_TYPES, context.picture_bytes_max)
    options = _creation_options(request)
    if _EVENTS in request.headers.get("accept", ""):
        return StreamingResponse(_creation_events(request, context, image, options), media_type=_EVENTS)
    async with context.client(request) as (client, _):
        return JSONResponse(head_dict(await client.create_head(image, **options)), 201)


def _creation_options(request: Request) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in ("refine_steps", "face_index"):
        if name in request.query_params:
            options[name] = integer(request.query_params, name, 0)
    return options


async def _creation_events(
    request: Request, context: AppContext, image: bytes, options: dict[str, Any]
) -> AsyncIterator[bytes]:
    """Events: stage {stage, share} as they begin, then head or error. Disconnecting stops the work."""
    loop, reports, request_id = asyncio.get_running_loop(), asyncio.Queue[tuple[str, float]](), str(uuid.uuid4())

    def report(stage: str, share: float) -> None:
        loop.call_soon_threadsafe(reports.put_nowait, (stage, share))

    async def create() -> head_pb2.Head:
        async with context.client(request) as (client, _):
            return await client.create_head(image, request_id=request_id, **options)

    with progress.listening(request_id, report):
        creation = asyncio.create_task(create())
        try:
            while not creation.done():
                next_report = asyncio.create_task(reports.get())
                await asyncio.wait((creation, next_report), return_when=asyncio.FIRST_COMPLETED)
                if next_report.done():
                    stage, share = next_report.result()
                    yield event("stage", {"stage": stage, "share": round(share, 3)})
                else:
                    next_report.cancel()
            try:
                yield event("head", head_dict(creation.result()))
            except Exception as error:
                yield event("error", error_dict(error))
        finally:
            creation.cancel()


async def list_heads(request: Request) -> Response:
    """All heads of the visitor, oldest first."""
    async with context_of(request).client(request) as (client, _):
        return JSONResponse({"heads": [head_dict(head) async for head in client.list_heads(page_size=1000)]})


async def get_head(request: Request) -> Response:
    """The record of one head."""
    async with context_of(request).client(request) as (client, visitor):
        return JSONResponse(head_dict(await client.get_head(visitor.head(request.path_params["head"]))))


async def delete_head(request: Request) -> Response:
    """Delete one head and what was derived from its portrait."""
    async with context_of(request).client(request) as (client, visitor):
        await client.delete_head(visitor.head(request.path_params["head"]))
    return Response(status_code=204)


async def get_splat(request: Request) -> Response:
    """The head's Gaussians as SPZ, for rendering in the browser."""
    return await _file(request, "spz", attachment=False)


async def export_head(request: Request) -> Response:
    """The head as a file to download."""
    kind = request.path_params["kind"]
    if kind not in _MEDIA_TYPES:
        raise InvalidInputError(f"kind is {kind[:40]!r}; choose from {', '.join(_MEDIA_TYPES)}.", field="kind")
    return await _file(request, kind, attachment=True)


async def _file(request: Request, kind: Any, *, attachment: bool) -> Response:
    """A head never changes, so its id names its files; a browser still asks each time whether it is there."""
    async with context_of(request).client(request) as (client, visitor):
        head = await client.get_head(visitor.head(request.path_params["head"]))
        headers = _cache_headers(head, kind)
        if attachment:
            headers["content-disposition"] = f'attachment; filename="head.{kind}"'
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        data = await client.export(head, kind)
    return Response(data, media_type=_MEDIA_TYPES[kind], headers=headers)


async def get_thumbnail(request: Request) -> Response:
    """A small picture from the front, or from ``yaw_deg`` and ``pitch_deg``."""
    query = request.query_params
    yaw, pitch, side = number(query, "yaw_deg", 0.0), number(query, "pitch_deg", 0.0), integer(query, "side", 128)
    async with context_of(request).client(request) as (client, visitor):
        head = await client.get_head(visitor.head(request.path_params["head"]))
        headers = _cache_headers(head, f"{yaw:g},{pitch:g},{side}")
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        shots = await client.render(head, [camera(yaw, pitch)], width=side, height=side, format="webp", quality=85)
    return Response(shots[0].data, media_type="image/webp", headers=headers)


async def render_head(request: Request) -> Response:
    """One picture, sharpened: {view_matrix: 16 numbers, fov_deg, width, height, alpha}, packed as Accept says."""
    values = await read_json(request)
    accept = request.headers.get("accept", "")
    media_type = accept if accept in _FORMATS else "image/png"
    width, height = integer(values, "width", 512), integer(values, "height", 512)
    format: Any = _FORMATS[media_type]
    async with context_of(request).client(request) as (client, visitor):
        shots = await cancel_on_disconnect(
            request,
            client.render(
                visitor.head(request.path_params["head"]),
                [matrix_camera(values, width, height)],
                width=width,
                height=height,
                format=format,
                alpha=bool(values.get("alpha", False)),
            ),
        )
    return Response(shots[0].data, media_type=media_type)


async def turntable(request: Request) -> Response:
    """A video of a full turn, H.264 in MP4."""
    query = request.query_params
    count, side, pitch = integer(query, "frames", 120), integer(query, "side", 512), number(query, "pitch_deg", 0.0)
    data = await cancel_on_disconnect(request, _encode_turntable(request, count, side, pitch))
    headers = {"content-disposition": 'attachment; filename="turntable.mp4"'}
    return Response(data, media_type="video/mp4", headers=headers)


async def _encode_turntable(request: Request, count: int, side: int, pitch: float) -> bytes:
    loop = asyncio.get_running_loop()
    async with context_of(request).client(request) as (client, visitor):
        name = visitor.head(request.path_params["head"])
        orbit = client.orbit(name, count, pitch_deg=pitch, width=side, height=side, format="raw_uint8")

        def frames() -> Iterator[npt.NDArray[np.uint8]]:
            """Runs on the thread that encodes them; the server computes the next one meanwhile."""
            while (frame := asyncio.run_coroutine_threadsafe(_next(orbit), loop).result()) is not None:
                yield np.asarray(frame.picture.array(), np.uint8)

        with tempfile.TemporaryDirectory(prefix="headlift-turntable-") as folder:
            path = Path(folder) / "turntable.mp4"
            await asyncio.to_thread(write_video, frames(), path)
            return await asyncio.to_thread(path.read_bytes)


async def _next(orbit: AsyncIterator[Frame]) -> Frame | None:
    return await anext(orbit, None)


def matrix_camera(values: dict[str, Any], width: int, height: int) -> camera_pb2.Camera:
    """The camera {view_matrix, fov_deg} of a picture of this size; whether it can be one, the service says."""
    matrix = values.get("view_matrix")
    if not isinstance(matrix, list) or len(matrix) != 16:
        raise InvalidInputError("view_matrix must be 16 numbers, row by row, world to camera.", field="view_matrix")
    entries = [number(dict(enumerate(matrix)), i, 0.0) for i in range(16)]  # type: ignore[arg-type]
    fov_deg = number(values, "fov_deg", 13.4)
    if not 1.0 <= fov_deg <= 170.0:
        raise InvalidInputError(f"fov_deg is {fov_deg:g}; it must lie in 1..170.", field="fov_deg")
    focal = min(width, height) / 2 / np.tan(np.radians(fov_deg) / 2)
    return camera_from_matrices(
        np.reshape(entries, (4, 4)), [[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]
    )


def _cache_headers(head: head_pb2.Head, what: str) -> dict[str, str]:
    return {"etag": f'"{head.name.rpartition("/")[2]}-{what}"', "cache-control": "private, no-cache"}
