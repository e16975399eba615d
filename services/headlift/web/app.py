"""The routes of the web gateway.

GET    /                              the editor
GET    /api/session                   who asks, what is offered; POST signs in with a key, DELETE signs out
DELETE /api/data                      deletes all that belongs to the visitor
GET    /api/sample                    a portrait to try with
POST   /api/heads                     a portrait in; progress as server-sent events; GET lists
GET    /api/heads/{head}              the record; DELETE deletes
GET    /api/heads/{head}/map          labels and portrait
POST   /api/heads/{head}/edits        a map, a style, or both in; a new head out
POST   /api/styles                    the style of a reference picture
GET    /api/heads/{head}/splat        SPZ for the browser's own renderer, with ETag
GET    /api/heads/{head}/thumbnail    WebP, with ETag
POST   /api/heads/{head}/render       one sharpened picture
GET    /api/heads/{head}/turntable    MP4
GET    /api/heads/{head}/export/KIND  ply, splat, spz, glb
WS     /api/heads/{head}/live         sharpened views, the newest viewpoint wins
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import ClassVar

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from headlift.errors import HeadliftError
from headlift.web import edit_routes, head_routes, session_routes
from headlift.web.context import AppContext
from headlift.web.live_route import live
from headlift.web.origin_check import OriginMiddleware
from headlift.web.responses import error_response

_log = logging.getLogger(__name__)
STATIC = Path(__file__).with_name("static")
_HEAD = "/api/heads/{head}"
# Files whose names do not change with what is in them; early.js belongs to the page and is as fresh.
_FILES = {"early.js": "no-cache", "favicon.svg": "public, max-age=86400", "licenses.txt": "no-cache"}


def web_app(context: AppContext, names: Iterable[str] = ()) -> Starlette:
    """The application.

    Args:
        context: What the routes share.
        names: Further host names of this server; see OriginMiddleware.
    """
    app = Starlette(
        routes=[
            Route("/", _index),
            Route("/api/session", session_routes.get_session, methods=["GET"]),
            Route("/api/session", session_routes.sign_in, methods=["POST"]),
            Route("/api/session", session_routes.sign_out, methods=["DELETE"]),
            Route("/api/data", session_routes.delete_data, methods=["DELETE"]),
            Route("/api/sample", session_routes.get_sample, methods=["GET"]),
            Route("/api/heads", head_routes.create_head, methods=["POST"]),
            Route("/api/heads", head_routes.list_heads, methods=["GET"]),
            Route(_HEAD, head_routes.get_head, methods=["GET"]),
            Route(_HEAD, head_routes.delete_head, methods=["DELETE"]),
            Route(f"{_HEAD}/map", edit_routes.get_map, methods=["GET"]),
            Route(f"{_HEAD}/edits", edit_routes.edit_head, methods=["POST"]),
            Route("/api/styles", edit_routes.embed_image, methods=["POST"]),
            Route(f"{_HEAD}/splat", head_routes.get_splat, methods=["GET"]),
            Route(f"{_HEAD}/thumbnail", head_routes.get_thumbnail, methods=["GET"]),
            Route(f"{_HEAD}/render", head_routes.render_head, methods=["POST"]),
            Route(f"{_HEAD}/turntable", head_routes.turntable, methods=["GET"]),
            Route(f"{_HEAD}/export/{{kind}}", head_routes.export_head, methods=["GET"]),
            WebSocketRoute(f"{_HEAD}/live", live),
            Mount("/assets", _Assets(directory=STATIC / "assets", check_dir=False)),
            *(Route(f"/{name}", _file(name)) for name in _FILES),
        ],
        middleware=[Middleware(OriginMiddleware, names=tuple(names))],
        exception_handlers={HTTPException: _http_error, HeadliftError: _headlift_error, Exception: _unexpected_error},
    )
    app.state.context = context
    return app


class _Assets(StaticFiles):
    """Built files; their names carry a hash of what is in them. Each is packed once."""

    _packed: ClassVar[dict[str, bytes]] = {}

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if isinstance(response, FileResponse) and "gzip" in Headers(scope=scope).get("accept-encoding", ""):
            packed = await asyncio.to_thread(self._pack, Path(response.path))
            response = Response(packed, media_type=response.media_type, headers={"content-encoding": "gzip"})
        response.headers["vary"] = "accept-encoding"
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response

    def _pack(self, path: Path) -> bytes:
        if path.name not in self._packed:
            self._packed[path.name] = gzip.compress(path.read_bytes(), 6)
        return self._packed[path.name]


async def _index(_: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def file(_: Request) -> Response:
        return FileResponse(STATIC / name, headers={"cache-control": _FILES[name]})

    return file


async def _http_error(_: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such address, no such method."""
    assert isinstance(error, HTTPException)
    body = {"code": "HTTP", "reason": f"HTTP_{error.status_code}", "message": error.detail}
    return JSONResponse({"error": body}, error.status_code, error.headers)


async def _headlift_error(_: Request, error: Exception) -> Response:
    return error_response(error)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(error)
