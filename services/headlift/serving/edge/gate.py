"""How many calls one server takes at the same time, whoever makes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from headlift.errors import OverloadedError

_SMOOTHING = 0.05  # weight of the latest call in the running mean
_SHORTEST_S, _LONGEST_S = 0.1, 30.0


class Gate:
    """Lets ``calls_max`` calls in at a time; the rest are refused before any work is done for them."""

    def __init__(self, calls_max: int) -> None:
        self._calls_max = calls_max
        self._mean_s = 0.0
        self.running = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place inside while the block runs. OverloadedError: there is none."""
        if self.running >= self._calls_max:
            # Places come free one by one: on average after a call's time shared by all that run.
            wait_s = min(max(self._mean_s / self._calls_max, _SHORTEST_S), _LONGEST_S)
            raise OverloadedError(
                f"{self.running} calls run on this server, which is the limit; try later.", retry_after_s=wait_s
            )
        self.running += 1
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.running -= 1
            taken = time.perf_counter() - begin
            self._mean_s = taken if not self._mean_s else (1 - _SMOOTHING) * self._mean_s + _SMOOTHING * taken
