"""Reading requests: content type, size, upload time, and typed values."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Collection
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request

from headlift.errors import DeadlineError, FormatError, InvalidInputError, PictureTooLargeError
from headlift.web.responses import UnsupportedTypeError

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/avif", "image/heic", "image/heif")
JSON_BYTES_MAX = 1 << 20
_UPLOAD_S = 120.0


async def read_body(request: Request, types: Collection[str], limit: int) -> bytes:
    """The body of a request.

    Raises:
        UnsupportedTypeError: Its content type is none of ``types``.
        PictureTooLargeError: It has more bytes than ``limit``; no more than that is ever held.
        DeadlineError: It came too slowly.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in types:
        raise UnsupportedTypeError(f"The content type is {content_type[:80]!r}; send one of {', '.join(types)}.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(int(announced), limit)
    body = bytearray()
    try:
        async with asyncio.timeout(_UPLOAD_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(len(body), limit)
    except TimeoutError:
        raise DeadlineError(f"The upload took longer than {_UPLOAD_S:g} s; send a smaller picture.") from None
    return bytes(body)


async def read_json(request: Request) -> dict[str, Any]:
    """A JSON object. FormatError: it is none."""
    body = await read_body(request, ("application/json",), JSON_BYTES_MAX)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise FormatError("The body is no JSON.", field="body") from None
    if not isinstance(value, dict):
        raise FormatError("The body must be a JSON object.", field="body")
    return value


def number(values: dict[str, Any] | QueryParams, field: str, default: float) -> float:
    """A finite number of a request; whether it is in range is for the service to say."""
    value = values.get(field, default)
    try:
        read = float(value)
    except (TypeError, ValueError):
        read = math.nan
    if isinstance(value, bool) or not math.isfinite(read):
        raise InvalidInputError(f"{field} is {str(value)[:80]!r}; it must be a number.", field=field)
    return read


def integer(values: dict[str, Any] | QueryParams, field: str, default: int) -> int:
    """A whole number of a request, within the contract's 32 bits."""
    value = number(values, field, default)
    if value != int(value) or abs(value) >= 1 << 31:
        raise InvalidInputError(f"{field} is {value:g}; it must be a whole number of 32 bits.", field=field)
    return int(value)


def text(values: dict[str, Any], field: str) -> str:
    """A text of a request; empty where it is missing."""
    value = values.get(field, "")
    if not isinstance(value, str):
        raise InvalidInputError(f"{field} must be a text.", field=field)
    return value


def _too_large(size: int, limit: int) -> PictureTooLargeError:
    return PictureTooLargeError(f"The body has {size} bytes or more; the limit is {limit}. Send a smaller picture.")
