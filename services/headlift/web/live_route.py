"""Live views in the browser: a WebSocket in front of a live session, so the newest viewpoint always wins.

The browser opens with {width, height} and then says {sequence, view_matrix, fov_deg}; every answer is one binary
message: the sequence as a 32-bit little-endian number, then a WebP with opacity. What is wrong comes as {error}.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from headlift.client import AsyncLiveSession, LiveRefused, LiveView
from headlift.errors import FormatError, HeadliftError
from headlift.web.context import context_of
from headlift.web.head_routes import matrix_camera
from headlift.web.requests import integer
from headlift.web.responses import error_dict

_log = logging.getLogger(__name__)
_PENDING_MAX = 64  # sequences whose outcome is not known yet
_CLOSE_ERROR = 4000  # the first code that is left to applications


async def live(socket: WebSocket) -> None:
    """Serve one socket until either side leaves."""
    await socket.accept()
    try:
        async with context_of(socket).client(socket) as (client, visitor):
            settings = await _receive(socket)
            size = integer(settings, "width", 512), integer(settings, "height", 512)
            name = visitor.head(socket.path_params["head"])
            async with client.live(
                head=name, width=size[0], height=size[1], format="webp", quality=88, alpha=True
            ) as session:
                await _serve(socket, session, size)
    except WebSocketDisconnect:
        pass
    except Exception as error:
        if not isinstance(error, HeadliftError):
            _log.exception("a live view failed")
        await socket.send_json({"error": error_dict(error)})
        await socket.close(_CLOSE_ERROR)


async def _serve(socket: WebSocket, session: AsyncLiveSession, size: tuple[int, int]) -> None:
    browser_sequences: dict[int, int] = {}  # by the session's own

    async def read() -> None:
        while True:
            message = await _receive(socket)
            try:
                camera = matrix_camera(message, *size)
                browser_sequences[await session.send_viewpoint(camera)] = integer(message, "sequence", 0) & 0x7FFFFFFF
            except HeadliftError as error:
                await socket.send_json({"error": error_dict(error)})
            while len(browser_sequences) > _PENDING_MAX:
                del browser_sequences[next(iter(browser_sequences))]

    async def write() -> None:
        async for answer in session:
            if isinstance(answer, LiveView):
                await socket.send_bytes(struct.pack("<I", browser_sequences.pop(answer.sequence, 0)) + answer.data)
            elif isinstance(answer, LiveRefused):
                await socket.send_json({"error": error_dict(answer.error)})

    tasks = [asyncio.create_task(read()), asyncio.create_task(write())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(socket: WebSocket) -> dict[str, Any]:
    try:
        message = json.loads(await socket.receive_text())
    except (ValueError, KeyError, RecursionError):  # KeyError: bytes instead of text
        raise FormatError("Live messages are JSON objects.") from None
    if not isinstance(message, dict):
        raise FormatError("Live messages are JSON objects.")
    return message
