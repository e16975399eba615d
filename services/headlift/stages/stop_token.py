"""How work is told to stop: its caller has gone, or its time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

from headlift.errors import CancelledError, DeadlineError

# When the call that is being served ends, of time.monotonic(); None: never.
DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)


class StopToken:
    """Tells work on another thread that nobody waits for it any more."""

    def __init__(self, deadline: float | None = None) -> None:
        """``deadline`` is of ``time.monotonic()``."""
        self.deadline = deadline
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    def stop(self) -> None:
        """Ask the work to end."""
        self._stopped.set()
        with self._lock:
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def check(self) -> None:
        """Raise once the work is of no use any more; long work calls this often (at least every 100 ms).

        Raises:
            CancelledError: ``stop`` was called.
            DeadlineError: The deadline has passed.
        """
        if self._stopped.is_set():
            raise CancelledError("The caller went away; the work was stopped.")
        if (remaining := self.remaining_s()) is not None and remaining <= 0.0:
            raise DeadlineError("The time for this request is over; allow more, or ask for less.")

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, negative past it; None without one."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @contextmanager
    def stopping(self, call: Callable[[], None]) -> Iterator[None]:
        """Inside the block ``stop`` also runs ``call``, on its own thread; at once if it was called before."""
        with self._lock:
            self._calls.append(call)
        if self._stopped.is_set():
            self.stop()
        try:
            yield
        finally:
            with self._lock:
                if call in self._calls:
                    self._calls.remove(call)


def without_deadline() -> Context:
    """The current context for work that several callers share: none of their deadlines is its own."""
    shared = copy_context()
    shared.run(DEADLINE.set, None)
    return shared
