"""Responses: records and errors as JSON, status codes, server-sent events."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.responses import JSONResponse

from headlift.errors import HeadliftError, InvalidInputError, OverloadedError, PictureTooLargeError
from headlift.status import UNEXPECTED
from headlift.v1 import head_pb2

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class UnsupportedTypeError(InvalidInputError):
    """The body is of a content type that this address does not take."""

    default_reason = "UNSUPPORTED_TYPE"


def error_dict(error: Exception) -> dict[str, Any]:
    """An error for the browser; an unexpected one is not described."""
    if not isinstance(error, HeadliftError) or error.code == "INTERNAL":
        return {"code": "INTERNAL", "reason": "INTERNAL", "message": UNEXPECTED}
    body: dict[str, Any] = {"code": error.code, "reason": error.reason, "message": error.message, "field": error.field}
    if isinstance(error, OverloadedError):
        body["retry_after_s"] = error.retry_after_s
    return body


def error_response(error: Exception) -> JSONResponse:
    """The same as a response of its own."""
    body = error_dict(error)
    status, headers = _STATUS.get(body["code"], 500), {}
    if isinstance(error, PictureTooLargeError | UnsupportedTypeError):
        status = 413 if isinstance(error, PictureTooLargeError) else 415
        headers["connection"] = "close"  # or the rest of the body would still be read, to be thrown away
    if "retry_after_s" in body:
        headers["retry-after"] = str(max(1, round(body["retry_after_s"])))
    return JSONResponse({"error": body}, status, headers)


def head_dict(head: head_pb2.Head) -> dict[str, Any]:
    """A head's record, with its short id."""
    return {"id": head.name.rpartition("/")[2]} | message_dict(head)


def message_dict(message: Message) -> dict[str, Any]:
    """A message with the contract's field names; numbers that are 0 are there too."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def event(name: str, data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
