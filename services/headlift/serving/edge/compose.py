"""From Settings to an EdgePolicy, TLS credentials and gRPC's options."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from headlift.errors import InvalidInputError
from headlift.serving.edge.auth import Authenticator
from headlift.serving.edge.interceptor import EdgePolicy, FinishedCall
from headlift.serving.edge.keys import KeyRing
from headlift.serving.edge.limits import ConcurrencyLimiter, Limiter, Limits, LocalLimiter
from headlift.serving.edge.quotas import Quotas
from headlift.serving.edge.tls import server_credentials
from headlift.serving.edge.tokens import TokenVerifier
from headlift.settings import Settings

_log = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "::1", "[::1]", "localhost")
MESSAGE_BYTES_MAX = 72 << 20  # above every limit of our own, whose errors say more than gRPC's
_STREAMS_MAX = 1_000


def compose_edge(
    settings: Settings,
    count_heads: Callable[[str], Awaitable[int]] | None = None,
    observers: tuple[Callable[[FinishedCall], None], ...] = (),
    draining: asyncio.Event | None = None,
) -> EdgePolicy:
    """The policy that ``settings`` ask for; ``draining`` is set by the server that shuts down.

    Raises:
        InvalidInputError: A file or a combination of settings is of no use.
    """
    limits = Limits(
        requests_per_s=settings.limit_requests_per_s,
        creates_per_min=settings.limit_creates_per_min,
        bytes_per_min=settings.limit_bytes_per_min,
        concurrent_calls=settings.limit_concurrent_calls,
        heads=settings.limit_heads,
    )
    authenticator = _authenticator(settings)
    if not authenticator.open and settings.tls_cert is None and settings.host not in _LOOPBACK:
        _log.warning("credentials come in unencrypted: set HEADLIFT_TLS_CERT and HEADLIFT_TLS_KEY")
    return EdgePolicy(
        deadline_s=settings.deadline_s,
        stream_idle_s=settings.stream_idle_s,
        authenticator=authenticator,
        quotas=Quotas(limits, _limiter(settings), count_heads),
        concurrency=ConcurrencyLimiter(settings.calls_max),
        reflection_scope=settings.reflection == "auth",
        draining=draining or asyncio.Event(),
        observers=observers,
    )


def credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """TLS credentials of the server; None where it speaks in the clear. InvalidInputError: files of no use."""
    if settings.tls_cert is None and settings.tls_key is None and settings.tls_client_ca is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise InvalidInputError("TLS needs a certificate and its key; set HEADLIFT_TLS_CERT and HEADLIFT_TLS_KEY.")
    return server_credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """gRPC's own options: sizes, and how long connections live."""
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.so_reuseport", 0),  # two servers on one port must collide, not share it
        ("grpc.max_concurrent_streams", _STREAMS_MAX),
        # Clients behind phones and proxies keep idle connections open by pings, with and without a running call.
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.ping_interval_s_min * 1e3)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    timed = {
        "grpc.keepalive_time_ms": settings.keepalive_s,
        "grpc.max_connection_idle_ms": settings.connection_idle_s,
        "grpc.max_connection_age_ms": settings.connection_age_s,
    }
    options += [(name, round(seconds * 1e3)) for name, seconds in timed.items() if seconds]
    if settings.connection_age_s:
        options.append(("grpc.max_connection_age_grace_ms", round(settings.connection_grace_s * 1e3)))
    return options


def keys_path(settings: Settings) -> Path:
    """The file with the API keys; its leading dot keeps it apart from what the store has there."""
    return (settings.keys_file or settings.data_dir / ".keys.json").expanduser()


def _authenticator(settings: Settings) -> Authenticator:
    keys = KeyRing(keys_path(settings)) if settings.auth in ("keys", "both") else None
    if settings.auth not in ("jwt", "both"):
        return Authenticator(keys)
    if settings.jwt_keys is None:
        raise InvalidInputError("Tokens need keys to be checked with; set HEADLIFT_JWT_KEYS to a PEM or JWKS file.")
    tokens = TokenVerifier(
        settings.jwt_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        leeway_s=settings.jwt_leeway_s,
        tenant_claim=settings.jwt_tenant_claim,
        scope_claim=settings.jwt_scope_claim,
    )
    return Authenticator(keys, tokens)


def _limiter(settings: Settings) -> Limiter:
    if not settings.redis_url:
        return LocalLimiter()
    from headlift.serving.edge.redis_limits import RedisLimiter  # here: the driver takes .2 s to import

    return RedisLimiter(settings.redis_url, timeout_s=settings.redis_timeout_ms / 1e3)
