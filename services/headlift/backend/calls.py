"""One call to a stage elsewhere: bytes go, bytes and a status come back.

They travel in the message itself, or by reference through the object store. Measured with Ray 2.60 on two busy cores,
p50 of a call that returns as many bytes as it was sent, ms::

    bytes       1 Ki   64 Ki   256 Ki   512 Ki   1 Mi   2 Mi   3 Mi   8 Mi
    by value      27      31       50       63    124    183    297     --
    reference     44      48       79       64     73     98     82    165
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from google.protobuf.message import Message
from google.rpc import status_pb2

from headlift.errors import HeadliftError
from headlift.stages.stop_token import StopToken
from headlift.status import error_of, status_of

VALUE_BYTES_MAX = 512 << 10
Reply = tuple[bytes, bytes, str]  # google.rpc.Status, empty where all is well; the response; hash of the weights


class StageCall(Protocol):
    """Asks whoever computes one stage; blocks."""

    def __call__(self, request: bytes, token: StopToken, *, answer_bytes: int = 0, key: str = "") -> bytes:
        """The response to a request.

        Args:
            request: The message.
            token: Stopped or late, it ends the call and the work behind it.
            answer_bytes: About what the response will hold.
            key: Requests of one key go to the same replica, while it has room.

        Raises:
            HeadliftError: What the stage raised, or OverloadedError, StageUnavailableError, DeadlineError,
                CancelledError.
        """
        ...


def reply_of(answer: Callable[[], Message], weights_hash: str = "") -> Reply:
    """Run ``answer``; what it raises on purpose travels as a status, whatever pickling would make of it."""
    try:
        return b"", answer().SerializeToString(), weights_hash
    except HeadliftError as error:
        return refusal(error)


def refusal(error: HeadliftError) -> Reply:
    """The reply that says ``error``."""
    return status_of(error).SerializeToString(), b"", ""


def opened(reply: Reply) -> bytes:
    """The response in a reply, or raise the error in it."""
    status, payload, _ = reply
    if status:
        raise error_of(status_pb2.Status.FromString(status))
    return payload


def by_value(request_bytes: int, answer_bytes: int) -> bool:
    """Whether a call goes by value, over Serve's own gRPC, or by reference.

    By value has the smaller fixed cost; by reference copies once into shared memory, and knows no limit (gRPC's between
    replicas is 4 MiB).
    """
    return max(request_bytes, answer_bytes) <= VALUE_BYTES_MAX
