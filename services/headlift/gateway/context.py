"""What a call knows about its caller, and how work is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Protocol

from headlift.errors import CancelledError, DeadlineError

# When the call that is being served ends, of time.monotonic(); None: never.
DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)


class CallContext(Protocol):
    """One call, seen by the servicer; every runtime brings its own."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What came with the request, keys in lower case; binary values are left out."""
        ...

    def time_remaining_s(self) -> float | None:
        """Seconds until the caller gives up; None where it never does."""
        ...

    def cancelled(self) -> bool:
        """Whether the caller has gone."""
        ...


@dataclass(frozen=True)
class LocalContext:
    """A call without a network: for direct use of a servicer in one process."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None  # of time.monotonic()
    stop: threading.Event = field(default_factory=threading.Event)

    def time_remaining_s(self) -> float | None:
        """See CallContext."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def cancelled(self) -> bool:
        """See CallContext."""
        return self.stop.is_set()


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


def check_alive(context: CallContext) -> None:
    """Refuse to begin work that nobody will see; work that begins from here on inherits the call's deadline.

    Raises:
        DeadlineError: The caller's time is over.
        CancelledError: The caller has gone.
    """
    if context.cancelled():
        raise CancelledError("The caller went away; the work was stopped.")
    remaining = context.time_remaining_s()
    if remaining is not None and remaining <= 0.0:
        raise DeadlineError("The deadline had passed before the work began; allow more time.")
    DEADLINE.set(None if remaining is None else time.monotonic() + remaining)


def without_deadline() -> Context:
    """The current context for work that several callers share: none of their deadlines is its own."""
    shared = copy_context()
    shared.run(DEADLINE.set, None)
    return shared
