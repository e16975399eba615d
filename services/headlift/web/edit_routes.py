"""Editing over HTTP: maps, styles, and heads made of both. EditService itself validates the requests."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headlift.client import style
from headlift.errors import FormatError, WeightsError
from headlift.v1 import edit_pb2 as pb
from headlift.web.context import cancel_on_disconnect, context_of
from headlift.web.requests import IMAGE_TYPES, number, read_body, read_json, text
from headlift.web.responses import head_dict


async def get_map(request: Request) -> Response:
    """The labels of a head's map, row by row, and the portrait below it; or why this server has none."""
    async with context_of(request).client(request) as (client, visitor):
        try:
            segmented = await client.segment(visitor.head(request.path_params["head"]), with_portrait=True)
        except WeightsError as error:
            return JSONResponse({"missing": error.message})  # a state of the server, not an error of the page
    return JSONResponse(
        {
            "side": len(segmented.labels),
            "labels": _to_base64(segmented.labels.tobytes()),
            "portrait": _to_base64(segmented.portrait.data if segmented.portrait else b""),
            "origin": segmented.origin,
        }
    )


async def embed_image(request: Request) -> Response:
    """The style embedding of a reference picture, for use in edits; the picture is not stored."""
    context = context_of(request)
    context.sessions.visitor(request)  # before the upload is read
    picture = await read_body(request, IMAGE_TYPES, context.picture_bytes_max)
    async with context.client(request) as (client, _):
        embedding = await client.embed_style(style(picture))
    return JSONResponse({"embedding": {"data": _to_base64(embedding.data), "fingerprint": embedding.fingerprint}})


async def edit_head(request: Request) -> Response:
    """A new head of a head: {labels: base64 or null, style: {terms} or null, strength, keep_map}."""
    body = await read_json(request)
    has_style = body.get("style") is not None
    async with context_of(request).client(request) as (client, visitor):
        edit = client.edit(
            visitor.head(request.path_params["head"]),
            map=_map(body) if body.get("labels") is not None else None,
            style=_style(body["style"]) if has_style else None,
            strength=number(body, "strength", 1.0) if has_style else None,
            keep_map=body.get("keep_map") is True,
        )
        edited = await cancel_on_disconnect(request, edit)
    return JSONResponse({"head": head_dict(edited.head), "ignored_words": list(edited.ignored_words)}, 201)


def _map(body: dict[str, Any]) -> pb.LabelMap:
    """The labels as they came: whether they are a map, EditService says."""
    labels = _from_base64(body, "labels")
    return pb.LabelMap(data=labels, format=pb.LABEL_MAP_FORMAT_RAW, side_px=math.isqrt(len(labels)))


def _style(value: Any) -> pb.Style:
    """A style from {terms: [{text or embedding, weight}]}."""
    terms = value.get("terms") if isinstance(value, dict) else None
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
    given = pb.StyleEmbedding(data=_from_base64(embedding, "data"), fingerprint=text(embedding, "fingerprint"))
    return pb.StyleTerm(embedding=given, weight=weight)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _from_base64(values: dict[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode(text(values, field), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{field} is no base64.", field=field) from None
