"""Sessions over HTTP: who asks, signing in and out, deleting all data, the sample portrait."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headlift import __version__
from headlift.errors import NotFoundError, UnauthenticatedError
from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift.web.context import AppContext, context_of
from headlift.web.requests import IMAGE_TYPES, read_json, text
from headlift.web.sessions import COOKIE, new_token, set_cookie


async def get_session(request: Request) -> Response:
    """Who asks and what the server has; begins a session where no key is required."""
    context = context_of(request)
    token = ""
    try:
        context.sessions.visitor(request)
        signed_in = True
    except UnauthenticatedError:
        signed_in = not context.sessions.requires_key
        token = new_token() if signed_in else ""
    response = JSONResponse(_session_info(context) | {"signed_in": signed_in})
    if token:
        set_cookie(response, token, request, lasting=True)
    return response


async def sign_in(request: Request) -> Response:
    """Begin a session with an API key; a fresh cookie, so that nobody can plant one beforehand."""
    context = context_of(request)
    token = context.sessions.sign_in(text(await read_json(request), "key").strip())
    response = JSONResponse(_session_info(context) | {"signed_in": True})
    set_cookie(response, token, request, lasting=not context.sessions.requires_key)
    return response


async def sign_out(request: Request) -> Response:
    """End the session here and in the browser; heads stay stored."""
    context_of(request).sessions.sign_out(request)
    return _without_cookie()


async def delete_data(request: Request) -> Response:
    """Delete every head of the visitor, and whatever else the store has of them."""
    context = context_of(request)
    async with context.client(request) as (client, visitor):
        names = [head.name async for head in client.list_heads(page_size=1000)]
        for name in names:
            try:
                await client.delete_head(name)
            except NotFoundError:
                continue  # deleted meanwhile, by this visitor's other window
        # What no head refers to: maps, styles, and what failed calls left behind.
        await context.delete_tenant(visitor.tenant)
    context.sessions.sign_out(request)
    response = _without_cookie()
    response.headers["clear-site-data"] = '"storage"'
    return response


async def get_sample(request: Request) -> Response:
    """A portrait to try with."""
    sample = context_of(request).sample
    if sample is None:
        raise NotFoundError("This server has no sample portrait; install headlift[demo] for one.")
    return Response(sample(), media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def _session_info(context: AppContext) -> dict[str, object]:
    return {
        "version": __version__,
        "asks_for_key": context.sessions.requires_key,
        "picture_bytes_max": context.picture_bytes_max,
        "picture_types": list(IMAGE_TYPES),
        "sample": context.sample is not None,
        "camera": {"center": HEAD_CENTER, "distance_m": DISTANCE, "fov_deg": math.degrees(2 * math.atan(0.5 / FOCAL))},
    }


def _without_cookie() -> Response:
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
