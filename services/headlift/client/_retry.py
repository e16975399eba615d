"""What a client does about failed calls: which are worth another try, when, and as what they are raised."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2

from headlift.errors import HeadliftError, OverloadedError
from headlift.status import error_of

_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential waits with full jitter; only UNAVAILABLE, and overload as the server's RetryInfo says."""

    attempts_max: int = 5  # tries in all, >= 1
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 5.0

    def delay_s(self, error: HeadliftError, attempt: int) -> float | None:
        """Seconds to wait after try ``attempt`` (from 0) failed, or None where it is not worth another."""
        if attempt + 1 >= self.attempts_max:
            return None
        if isinstance(error, OverloadedError):
            # A little later than asked for, and not all callers at once.
            return error.retry_after_s * random.uniform(1.0, 1.5)
        if error.code == "UNAVAILABLE":
            return random.uniform(0.5, 1.0) * min(self.first_s * self.factor**attempt, self.longest_s)
        return None


class Attempts:
    """The tries of one call within its time; of no end where none is given."""

    def __init__(self, policy: RetryPolicy, timeout_s: float = math.inf) -> None:
        self._policy = policy
        self._end = time.monotonic() + timeout_s
        self._attempt = 0

    @property
    def remaining_s(self) -> float:
        """Time left for the next try; never quite 0, so that gRPC itself reports the deadline."""
        return max(self._end - time.monotonic(), 1e-3)

    def delay_after(self, failure: grpc.RpcError, *, again: bool = True) -> float:
        """Seconds to wait before the next try; raises our error where there is none, or not ``again``."""
        error = error_from_rpc(failure)
        delay = self._policy.delay_s(error, self._attempt)
        if not again or delay is None or delay >= self.remaining_s:
            raise error from None
        self._attempt += 1
        return delay


def error_from_rpc(failure: Any) -> HeadliftError:
    """The error that a failed call stands for; takes the errors of both of gRPC's client APIs."""
    return error_of(_details(failure.trailing_metadata() or ()) or _plain(failure))


def _details(trailers: Iterable[Any]) -> status_pb2.Status | None:
    for key, value in trailers:
        if key == _DETAILS:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # something on the way broke it; code and message still stand
                return None
    return None


def _plain(failure: Any) -> status_pb2.Status:
    """gRPC's own refusals carry no details."""
    return status_pb2.Status(code=code_pb2.Code.Value(failure.code().name), message=failure.details() or "")
