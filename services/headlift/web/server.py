"""Serving the web gateway next to a gRPC server, in one process and on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from headlift.errors import StoreError
from headlift.serving.embedded import EmbeddedServer
from headlift.settings import Settings
from headlift.web.app import web_app
from headlift.web.context import AppContext
from headlift.web.sessions import Sessions

_log = logging.getLogger(__name__)
_CONNECTIONS_MAX = 256
_MESSAGE_BYTES_MAX = 64 << 10  # of a live view's viewpoints
_POLL_S = 0.02


class WebServer:
    """An ``async with`` server on ``settings.web_host`` and ``web_port``.

    Attributes:
        port: The port that was taken.
    """

    port: int

    def __init__(
        self,
        settings: Settings,
        server: EmbeddedServer,
        private_socket: Path,
        sample: Callable[[], bytes] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            settings: As a whole.
            server: What endpoints talk to; it must be serving.
            private_socket: Where it listens for them.
            sample: A portrait for visitors who have none at hand.
        """
        self._settings, self._grpc = settings, server
        store = server.service.store

        async def delete_tenant(tenant: str) -> None:
            await asyncio.to_thread(store.delete_all, f"tenants/{tenant}")

        sessions = Sessions(f"unix:{private_socket}", server.caller if settings.auth != "none" else None)
        app = web_app(
            AppContext(sessions, delete_tenant, settings.picture_bytes_max, sample), settings.web_names.split(",")
        )
        self._server = _EmbeddedUvicorn(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="websockets-sansio",
                ws_max_size=_MESSAGE_BYTES_MAX,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_graceful_shutdown=int(settings.drain_s) or 1,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
            )
        )

    @property
    def listening(self) -> str:
        """HOST:PORT that is bound."""
        return f"{self._settings.web_host}:{self.port}"

    @property
    def url(self) -> str:
        """Where people open it."""
        host = "localhost" if self._settings.web_host in ("0.0.0.0", "::", "127.0.0.1") else self._settings.web_host  # noqa: S104
        return f"{'https' if self._settings.tls_cert else 'http'}://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen and serve. StoreError: the port is taken."""
        listening = _listen(self._settings.web_host, self._settings.web_port)
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([listening]))
        while not self._server.started and not self._task.done():
            await asyncio.sleep(_POLL_S)
        if self._task.done():
            self._task.result()
        _log.info("the editor is at %s", self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take no more requests, let running ones finish, then close."""
        self._server.should_exit = True
        await self._task


class _EmbeddedUvicorn(uvicorn.Server):
    """Leaves signals to the process that it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise StoreError(
            f"{host}:{port} cannot be listened on; stop what uses it, or choose another --web-port (0: any).",
            reason="PORT_TAKEN",
        ) from None
    return listening
