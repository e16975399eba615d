"""What the server has to say and the caller has not read yet: bounded, whatever the caller does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from headlift.errors import HeadliftError
from headlift.gateway.live.mailbox import Mailbox
from headlift.status import status_of
from headlift.v1 import live_pb2 as pb

_ERRORS_MAX = 16


class Outbox:
    """The answers to one letter, a few errors, and the mailbox's losses; read by one reader."""

    def __init__(self, mailbox: Mailbox, on_free: Callable[[], None] = lambda: None) -> None:
        """``on_free`` hears when the last answer is read."""
        self._mailbox = mailbox
        self._on_free = on_free
        self._answers: deque[pb.LiveResponse] = deque()
        self._errors: deque[pb.LiveError] = deque()
        self._left_out = 0
        self._last_word: pb.LiveResponse | None = None
        self._ended = False
        self._news = asyncio.Event()

    @property
    def free(self) -> bool:
        """Whether every answer was read."""
        return not self._answers

    def put(self, answers: Sequence[pb.LiveResponse]) -> None:
        """Say ``answers``; those before should have been read."""
        self._answers.extend(answers)
        self._news.set()

    def refuse(self, sequence: int, error: HeadliftError) -> None:
        """Tell about a message that cannot be served; the oldest errors make room for new ones."""
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
        self._news.set()

    def go_away(self, message: pb.LiveGoAway) -> None:
        """Say goodbye."""
        self._last_word = pb.LiveResponse(go_away=message)
        self._news.set()

    def notice(self) -> None:
        """Something was lost: the mailbox has a report."""
        self._news.set()

    def end(self) -> None:
        """Nothing more will be put."""
        self._ended = True
        self._news.set()

    async def read(self) -> pb.LiveResponse | None:
        """What to say next: goodbyes first, then errors, losses and answers; None at the end."""
        while (message := self._next()) is None and not self._ended:
            self._news.clear()
            await self._news.wait()
        return message

    def _next(self) -> pb.LiveResponse | None:
        if self._last_word is not None:
            message, self._last_word = self._last_word, None
            return message
        if self._errors:
            return pb.LiveResponse(error=self._errors.popleft())
        if (report := self._mailbox.report()) is not None:
            return pb.LiveResponse(dropped=report)
        if not self._answers:
            return None
        message = self._answers.popleft()
        if self.free:
            self._on_free()
        return message
