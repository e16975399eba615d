"""Who hears how far a request is: for progress bars in the process that serves.

The contract answers CreateHead in one piece. Whoever shares the process with the server (``headlift.web``) may listen
under the request's ``request_id``, which it chose itself and nobody can guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Hear = Callable[[str, float], None]  # stage, and the share of it that is done, 0..1; called from any thread
_LISTENERS: dict[str, Hear] = {}
_HEARER: ContextVar[Hear | None] = ContextVar("hearer", default=None)


@contextmanager
def listening(request_id: str, hear: Hear) -> Iterator[None]:
    """Inside the block ``hear`` is told of the stages of this request, as far as they run in this process."""
    _LISTENERS[request_id] = hear
    try:
        yield
    finally:
        del _LISTENERS[request_id]


def follow(request_id: str) -> None:
    """From here on, and on the threads that are asked from here, ``tell`` speaks of this request."""
    _HEARER.set(_LISTENERS.get(request_id))


def tell(stage: str, share: float = 0.0) -> None:
    """A stage has begun, or got as far as ``share``; cheap where nobody listens."""
    if (hear := _HEARER.get()) is not None:
        hear(stage, share)
