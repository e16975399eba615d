"""What the endpoints share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from headlift.client import AsyncHeadliftClient
from headlift.web.sessions import Sessions, Visitor


@dataclass(frozen=True)
class Desk:
    """Attributes.

    Attributes:
        sessions: Who asks.
        forget: Removes all that the store has of a tenant.
        picture_bytes_max: Largest upload.
        sample: A portrait to try with; None where there is none.
    """

    sessions: Sessions
    forget: Callable[[str], Awaitable[None]]
    picture_bytes_max: int
    sample: Callable[[], bytes] | None = None

    @asynccontextmanager
    async def client(self, connection: HTTPConnection) -> AsyncIterator[tuple[AsyncHeadliftClient, Visitor]]:
        """A client that acts for whoever asks. UnauthenticatedError: nobody that is known."""
        visitor = self.sessions.visitor(connection)
        async with self.sessions.client(visitor) as client:
            yield client, visitor


def desk_of(connection: HTTPConnection) -> Desk:
    """The desk of the application that serves ``connection``."""
    desk: Desk = connection.app.state.desk
    return desk
