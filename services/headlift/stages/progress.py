"""Progress of requests, for progress bars in the process that serves.

The contract answers CreateHead in one piece. Code in the server's own process (``headlift.web``) may listen under the
request's ``request_id``, which it chose itself and nobody can guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, float], None]  # stage, and the share of it that is done, 0..1; called from any thread
_LISTENERS: dict[str, Listener] = {}
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)  # of the request in this context


@contextmanager
def listening(request_id: str, listener: Listener) -> Iterator[None]:
    """Call ``listener`` in the block for every stage of this request that runs in this process."""
    _LISTENERS[request_id] = listener
    try:
        yield
    finally:
        del _LISTENERS[request_id]


def bind(request_id: str) -> None:
    """Make ``report`` in this context, and in work handed to threads from it, report this request's progress."""
    _LISTENER.set(_LISTENERS.get(request_id))


def report(stage: str, share: float = 0.0) -> None:
    """Report that a stage has begun, or has done ``share`` of its work; cheap without a listener."""
    if (listener := _LISTENER.get()) is not None:
        listener(stage, share)
