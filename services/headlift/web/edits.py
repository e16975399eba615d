"""Editing over HTTP: maps, looks, and heads made of both. What a request must look like is EditService's to say."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headlift.errors import FormatError, WeightsError
from headlift.v1 import edit_pb2 as pb
from headlift.v1 import edit_service_pb2 as service_pb
from headlift.web.answers import head_dict
from headlift.web.bodies import PICTURES, number, read_body, read_json, text
from headlift.web.desk import desk_of
from headlift.web.editing import Editing
from headlift.web.leaving import while_here
from headlift.web.sessions import Visitor


async def get_map(request: Request) -> Response:
    """The labels of a head's map, row by row, and the portrait below it; or why this server has none."""
    async with _editing(request) as (editing, visitor):
        wanted = service_pb.SegmentPortraitRequest(
            parent=f"tenants/{visitor.tenant}",
            head=visitor.head(request.path_params["head"]),
            with_portrait=True,
            format=pb.LABEL_MAP_FORMAT_RAW,
        )
        try:
            answer = await editing.segment(wanted)
        except WeightsError as error:
            return JSONResponse({"missing": error.message})  # a state of the server, and no fault of the page's
    return JSONResponse(
        {
            "side": answer.map.side_px,
            "labels": _packed(answer.map.data),
            "portrait": _packed(answer.portrait.data),
            "origin": service_pb.MapOrigin.Name(answer.origin).removeprefix("MAP_ORIGIN_").lower(),
        }
    )


async def embed_picture(request: Request) -> Response:
    """The look of a reference picture, for use in edits; the picture is not kept."""
    desk = desk_of(request)
    visitor = desk.sessions.visitor(request)  # before the upload is read
    picture = await read_body(request, PICTURES, desk.picture_bytes_max)
    wanted = service_pb.EmbedStyleRequest(
        parent=f"tenants/{visitor.tenant}", style=pb.Style(terms=[pb.StyleTerm(picture=picture)])
    )
    async with _editing(request) as (editing, _):
        embedding = (await editing.embed(wanted)).embedding
    return JSONResponse({"embedding": {"data": _packed(embedding.data), "fingerprint": embedding.fingerprint}})


async def edit_head(request: Request) -> Response:
    """A new head of a head: {labels: base64 or null, style: {terms} or null, strength, keep_map}."""
    wanted = await read_json(request)
    async with _editing(request) as (editing, visitor):
        message = service_pb.EditHeadRequest(
            parent=f"tenants/{visitor.tenant}", head=visitor.head(request.path_params["head"])
        )
        if wanted.get("labels") is not None:
            labels = _unpacked(wanted, "labels")
            side = math.isqrt(len(labels))
            message.map.CopyFrom(pb.LabelMap(data=labels, format=pb.LABEL_MAP_FORMAT_RAW, side_px=side))
        if wanted.get("style") is not None:
            message.style.CopyFrom(_style(wanted["style"]))
            message.strength = number(wanted, "strength", 1.0)
        message.keep_map = wanted.get("keep_map") is True
        answer = await while_here(request, editing.edit(message))
    return JSONResponse({"head": head_dict(answer.head), "ignored_words": list(answer.ignored_words)}, 201)


@asynccontextmanager
async def _editing(request: Request) -> AsyncIterator[tuple[Editing, Visitor]]:
    """EditService for whoever asks."""
    sessions = desk_of(request).sessions
    visitor = sessions.visitor(request)
    async with sessions.editing(visitor) as editing:
        yield editing, visitor


def _style(style: Any) -> pb.Style:
    """A style from {terms: [{text or embedding, weight}]}."""
    terms = style.get("terms") if isinstance(style, dict) else None
    if not isinstance(terms, list) or not all(isinstance(term, dict) for term in terms):
        raise FormatError("style must be {terms: [...]}.", field="style.terms")
    return pb.Style(terms=[_term(term) for term in terms])


def _term(term: dict[str, Any]) -> pb.StyleTerm:
    weight = number(term, "weight", 1.0)
    embedding = term.get("embedding")
    if embedding is None:
        return pb.StyleTerm(text=text(term, "text"), weight=weight)
    if not isinstance(embedding, dict):
        raise FormatError("embedding must be {data, fingerprint}.", field="style.terms.embedding")
    given = pb.StyleEmbedding(data=_unpacked(embedding, "data"), fingerprint=text(embedding, "fingerprint"))
    return pb.StyleTerm(embedding=given, weight=weight)


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpacked(values: dict[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode(text(values, field), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{field} is no base64.", field=field) from None
