"""The visitor: sessions, signing in, and forgetting everything."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headlift import __version__
from headlift.errors import NotFoundError, UnauthenticatedError
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift.web.bodies import PICTURES, read_json, text
from headlift.web.desk import Desk, desk_of
from headlift.web.sessions import COOKIE, new_token, set_cookie


async def get_session(request: Request) -> Response:
    """Who asks and what is offered; begins a session where nobody is asked for a key."""
    desk = desk_of(request)
    token = ""
    try:
        desk.sessions.visitor(request)
        known = True
    except UnauthenticatedError:
        known = not desk.sessions.asks
        token = new_token() if known else ""
    response = JSONResponse(_offer(desk) | {"signed_in": known})
    if token:
        set_cookie(response, token, request, lasting=True)
    return response


async def sign_in(request: Request) -> Response:
    """Begin a session with an API key; a fresh cookie, so that nobody can plant one beforehand."""
    desk = desk_of(request)
    token = desk.sessions.sign_in(text(await read_json(request), "key").strip())
    response = JSONResponse(_offer(desk) | {"signed_in": True})
    set_cookie(response, token, request, lasting=not desk.sessions.asks)
    return response


async def sign_out(request: Request) -> Response:
    """End the session here and in the browser; heads stay."""
    desk_of(request).sessions.sign_out(request)
    return _without_cookie()


async def delete_data(request: Request) -> Response:
    """Delete every head of the visitor, and whatever else the store has of them."""
    desk = desk_of(request)
    async with desk.client(request) as (client, visitor):
        names = [head.name async for head in client.list_heads(page_size=1000)]
        for name in names:
            try:
                await client.delete_head(name)
            except NotFoundError:
                continue  # deleted meanwhile, by this visitor's other window
        # What no head names: maps, looks, and what calls that failed left behind.
        await desk.forget(visitor.tenant)
    desk.sessions.sign_out(request)
    response = _without_cookie()
    response.headers["clear-site-data"] = '"storage"'
    return response


async def get_sample(request: Request) -> Response:
    """A portrait to try with."""
    sample = desk_of(request).sample
    if sample is None:
        raise NotFoundError("This server has no sample portrait; install headlift[demo] for one.")
    return Response(sample(), media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def _offer(desk: Desk) -> dict[str, object]:
    return {
        "version": __version__,
        "asks_for_key": desk.sessions.asks,
        "picture_bytes_max": desk.picture_bytes_max,
        "picture_types": list(PICTURES),
        "sample": desk.sample is not None,
        "camera": {"center": HEAD_CENTER, "distance_m": DISTANCE, "fov_deg": math.degrees(2 * math.atan(0.5 / FOCAL))},
    }


def _without_cookie() -> Response:
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
