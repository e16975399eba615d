"""What both clients are made of besides calls: the channel, the tenant, deadlines and metadata."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import grpc
from grpc_health.v1 import health_pb2

from headlift.client._calls import Call, Stubs, Unary
from headlift.client._credentials import Credentials
from headlift.client._retry import Attempts, RetryPolicy
from headlift.errors import DeadlineError

HEALTH_POLL_S = 0.1
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 80 << 20),
    ("grpc.max_send_message_length", 80 << 20),
    ("grpc.enable_retries", 0),  # ours know about RetryInfo
]


class BaseClient:
    """State of a client and its decisions; the faces add waiting."""

    _grpc: ClassVar[Any] = grpc  # grpc or grpc.aio

    def __init__(
        self,
        address: str,
        *,
        tenant: str = "local",
        timeout_s: float = 120.0,
        retry: RetryPolicy | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        credentials: Credentials | None = None,
    ) -> None:
        """Connect, lazily.

        Args:
            address: HOST:PORT.
            tenant: Whose heads short names mean, and who owns new ones.
            timeout_s: Time that each call may take, its retries included; every method's ``timeout_s`` overrides it.
            retry: When to try again.
            metadata: Sent with every call.
            credentials: How the client is known, and TLS.
        """
        self.tenant = tenant
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._metadata = tuple(metadata)
        self._credentials = credentials or Credentials()
        self._channel = self._credentials.channel(self._grpc, address, _CHANNEL_OPTIONS)
        self._stubs = Stubs(self._channel)

    def _attempts(self, call: Call[Any]) -> Attempts:
        return Attempts(self._retry, call.timeout_s or self._timeout_s)

    def _start(self, call: Call[Any], timeout_s: float | None) -> Any:
        """Hand a call to gRPC: its response, or what is awaited or iterated for it."""
        return call.method(self._stubs)(call.request, timeout=timeout_s, metadata=self._call_metadata())

    def _call_metadata(self) -> tuple[tuple[str, str], ...]:
        return (*self._metadata, *self._credentials.metadata())  # anew for every try: tokens expire


def health_checks(timeout_s: float) -> Iterator[Unary[bool]]:
    """Calls that say whether the server is serving, until the time is over. DeadlineError: it is."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        yield Unary(
            lambda stubs: stubs.health.Check,
            health_pb2.HealthCheckRequest(),
            lambda response: bool(response.status == health_pb2.HealthCheckResponse.SERVING),
            min(1.0, timeout_s),
        )
    raise DeadlineError(f"The server did not say SERVING within {timeout_s:g} s; see its log, or wait longer.")
