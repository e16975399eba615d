"""What a call knows about its caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headlift.errors import CancelledError, DeadlineError
from headlift.stages.stop_token import DEADLINE


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
