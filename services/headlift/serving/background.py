"""An embedded server on a thread of its own: for commands, notebooks and tests that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from headlift.serving.compose import Service
from headlift.serving.embedded import EmbeddedServer
from headlift.settings import Settings


class BackgroundServer:
    """A ``with`` block during which a server runs; ``address`` is where."""

    address: str
    service: Service

    def __init__(self, settings: Settings, service: Service | None = None) -> None:
        """See EmbeddedServer."""
        self._settings = settings
        self._given = service
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headlift-server", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Start and wait until health says SERVING; raises what starting raised."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and stop."""
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        async with EmbeddedServer(self._settings, self._given) as server:
            self.address, self.service = server.address, server.service
            self._ready.set()
            await self._leave.wait()
