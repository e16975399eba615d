"""Messages that the caller has not read yet: bounded, whatever the caller does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from headlift.errors import HeadliftError
from headlift.gateway.live.latest_slot import LatestSlot
from headlift.status import status_of
from headlift.v1 import live_pb2 as pb

_ERRORS_MAX = 16


class SendBuffer:
    """The answers to one input, a few errors, and reports of dropped inputs; read by one reader."""

    def __init__(self, latest: LatestSlot, on_free: Callable[[], None] = lambda: None) -> None:
        """``on_free`` is called when the last answer is read."""
        self._latest = latest
        self._on_free = on_free
        self._answers: deque[pb.LiveResponse] = deque()
        self._errors: deque[pb.LiveError] = deque()
        self._left_out = 0
        self._go_away: pb.LiveResponse | None = None
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def free(self) -> bool:
        """Whether every answer was read."""
        return not self._answers

    def put(self, answers: Sequence[pb.LiveResponse]) -> None:
        """Queue ``answers``; those before should have been read."""
        self._answers.extend(answers)
        self._changed.set()

    def refuse(self, sequence: int, error: HeadliftError) -> None:
        """Queue an error about a message that cannot be served; the oldest errors make room for new ones."""
        status = status_of(error)
        if len(self._errors) == _ERRORS_MAX:
            self._left_out += 1 + self._errors.popleft().left_out_count
        message = pb.LiveError(
            sequence=sequence,
            code=status.code,
            message=status.message,
            details=status.details,
            left_out_count=self._left_out,
        )
        self._left_out = 0
        self._errors.append(message)
        self._changed.set()

    def go_away(self, message: pb.LiveGoAway) -> None:
        """Queue a go_away; it is read before everything else."""
        self._go_away = pb.LiveResponse(go_away=message)
        self._changed.set()

    def notify(self) -> None:
        """Wake the reader: the slot has dropped something."""
        self._changed.set()

    def end(self) -> None:
        """Let ``read`` return None once everything was read."""
        self._ended = True
        self._changed.set()

    async def read(self) -> pb.LiveResponse | None:
        """The next message: go_away first, then errors, drops and answers; None at the end."""
        while (message := self._next()) is None and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return message

    def _next(self) -> pb.LiveResponse | None:
        if self._go_away is not None:
            message, self._go_away = self._go_away, None
            return message
        if self._errors:
            return pb.LiveResponse(error=self._errors.popleft())
        if (report := self._latest.report()) is not None:
            return pb.LiveResponse(dropped=report)
        if not self._answers:
            return None
        message = self._answers.popleft()
        if self.free:
            self._on_free()
        return message
