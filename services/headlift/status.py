"""HeadliftError <-> google.rpc.Status, both ways (AIP-193).

The server packs an error's class, reason, field and metadata; the client finds the class again by its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import any_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from headlift.errors import HeadliftError, InvalidInputError, OverloadedError, ServerError

DOMAIN = "headlift.dev"
UNEXPECTED = (
    "Something went wrong inside the server; the fault has been logged. Quote the request id when you report it."
)


def status_of(error: HeadliftError) -> status_pb2.Status:
    """The status that stands for ``error``."""
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.field and isinstance(error, InvalidInputError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, OverloadedError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(retry)
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message, details=map(_packed, details))


def unexpected_status(request_id: str) -> status_pb2.Status:
    """The status for an exception that nobody foresaw: fixed words, and an id to find the log line by."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"request_id": request_id})
    return status_pb2.Status(code=code_pb2.INTERNAL, message=UNEXPECTED, details=[_packed(info)])


def error_of(status: Any) -> HeadliftError:
    """The error that a status stands for; ServerError where no class of ours fits.

    Args:
        status: google.rpc.Status, or one of our messages with its fields (LiveError, ReplayError).
    """
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    has_info, has_bad, has_retry = (any(d.Unpack(m) for d in status.details) for m in (info, bad, retry))
    code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    kind = _class_of(info.reason if has_info and info.domain == DOMAIN else "", code)
    if issubclass(kind, OverloadedError):
        wait_s = retry.retry_delay.ToTimedelta().total_seconds() if has_retry else 1.0
        return kind(status.message, retry_after_s=wait_s, metadata=dict(info.metadata))
    field = bad.field_violations[0].field if has_bad and bad.field_violations else None
    error = kind(status.message, reason=info.reason or None, field=field, metadata=dict(info.metadata))
    error.code = code
    return error


def _class_of(reason: str, code: str) -> type[HeadliftError]:
    """The class with this reason; else the most general one with this code."""
    # The tree of headlift.errors alone: what a module derives for itself is known to nobody on the other side.
    public = [kind for kind in _tree(HeadliftError) if kind.__module__ == HeadliftError.__module__]
    classes = [kind for kind in public if kind.code == code and kind is not HeadliftError]
    for kind in classes:
        if kind.default_reason == reason:
            return kind
    # A reason narrower than any class (BAD_PAGE_TOKEN): its nearest class is the topmost of its code. Without a reason
    # the status was made by gRPC itself, and only its own two kinds are sure to mean the same.
    if classes and (reason or code in ("DEADLINE_EXCEEDED", "CANCELLED")):
        return classes[0]
    return ServerError


def _tree(kind: type[HeadliftError]) -> Iterator[type[HeadliftError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
