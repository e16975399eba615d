"""Checks of every request of a browser, host name and origin; and the security headers of every response.

A page of somebody else cannot reach the gateway: not by a form or fetch (Origin and a header that needs a preflight,
which is never granted), not through DNS that points at this machine (Host), not in a frame (frame-ancestors), and it
cannot read what it embeds (Cross-Origin-Resource-Policy).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headlift.errors import HeadliftError, PermissionDeniedError
from headlift.web.responses import error_response

CSRF_HEADER = "x-headlift"
_SAFE_METHODS = ("GET", "HEAD")
# Spark unpacks splats with WebAssembly in a worker that it makes from a blob; its module comes as a data URL.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "connect-src 'self' data: blob:",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "style-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), payment=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class OriginMiddleware:
    """ASGI middleware: refuses foreign hosts and origins, and adds security headers to responses."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        """``names``: HOST or HOST:PORT by which browsers may know this server, besides localhost and IP addresses."""
        self._app = app
        self._names = frozenset(name.strip().lower() for name in names if name.strip())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith("/api/"):
                    headers.setdefault("cache-control", "no-store")
                if scope["scheme"] == "https":
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        try:
            self._check(scope, Headers(scope=scope))
        except HeadliftError as error:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before accept: a plain 403
            else:
                await error_response(error)(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        if not self._is_own_host(host):
            raise PermissionDeniedError(
                f"This server does not go by the name {host[:100]!r}; add it to HEADLIFT_WEB_NAMES.",
                reason="UNKNOWN_NAME",
            )
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return
        origin = headers.get("origin", "").lower()
        # Behind a proxy that ends TLS the scheme is not known here; the name and port must be.
        if origin.partition("://")[2] != host or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise PermissionDeniedError("Only pages of this server may ask for this.", reason="CROSS_ORIGIN")
        if scope["type"] == "http" and CSRF_HEADER not in headers:
            raise PermissionDeniedError(f"Send the header {CSRF_HEADER} with any value.", reason="NO_CSRF_HEADER")

    def _is_own_host(self, host: str) -> bool:
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        if name == "localhost" or host in self._names or name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))  # no DNS can point a page of another name at an address
        except ValueError:
            return False
        return True
