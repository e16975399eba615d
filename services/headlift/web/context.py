"""What the routes share: the application's context, and work that stops when the browser goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request

from headlift.client import AsyncHeadliftClient
from headlift.errors import CancelledError
from headlift.web.sessions import Sessions, Visitor

T = TypeVar("T")


@dataclass(frozen=True)
class AppContext:
    """The state of the application.

    Attributes:
        sessions: Who asks.
        delete_tenant: Removes all that the store has of a tenant.
        picture_bytes_max: Largest upload.
        sample: A portrait to try with; None where there is none.
    """

    sessions: Sessions
    delete_tenant: Callable[[str], Awaitable[None]]
    picture_bytes_max: int
    sample: Callable[[], bytes] | None = None

    @asynccontextmanager
    async def client(self, connection: HTTPConnection) -> AsyncIterator[tuple[AsyncHeadliftClient, Visitor]]:
        """A client that acts for whoever asks. UnauthenticatedError: nobody that is known."""
        visitor = self.sessions.visitor(connection)
        async with self.sessions.client(visitor) as client:
            yield client, visitor


def context_of(connection: HTTPConnection) -> AppContext:
    """The context of the application that serves ``connection``."""
    context: AppContext = connection.app.state.context
    return context


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the browser disconnects; the body must have been read.

    Raises:
        CancelledError: The browser disconnected first.
    """
    working, disconnected = asyncio.create_task(work), asyncio.create_task(_wait_for_disconnect(request))
    try:
        await asyncio.wait((working, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CancelledError("The browser went away; the work was stopped.")
    finally:
        for task in (working, disconnected):
            task.cancel()
        await asyncio.gather(working, disconnected, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
