"""One execution per ``request_id``, however often and however concurrently it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headlift.errors import ConflictError
from headlift.stages.stop_token import without_deadline

T = TypeVar("T")


@dataclass
class _Running(Generic[T]):
    body_sha256: str
    task: asyncio.Task[T]
    waiting: int = 0


class SharedWork(Generic[T]):
    """Work in flight; callers with the same key share one.

    The shared work is cancelled when its last caller has gone, so that one impatient retry does not end the work that
    another caller still waits for.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], _Running[T]] = {}

    async def run(self, key: tuple[str, str], body_sha256: str, create: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of ``create``, or of an equal call that is already under way.

        Args:
            key: Tenant and request_id, or whatever else names the work.
            body_sha256: What is asked for.
            create: Does the work, and remembers it before returning.

        Raises:
            ConflictError: The same key is under way for something else.
        """
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = _Running(
                body_sha256, asyncio.create_task(create(), context=without_deadline())
            )
            running.task.add_done_callback(lambda _: self._forget(key, running))
        elif running.body_sha256 != body_sha256:
            raise conflict(key[1])
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        finally:
            running.waiting -= 1
            if running.waiting == 0 and not running.task.done():
                running.task.cancel()
                # At once: who comes next must not join work that is ending.
                self._forget(key, running)

    def _forget(self, key: tuple[str, str], running: _Running[T]) -> None:
        if self._running.get(key) is running:
            del self._running[key]
        if running.task.done() and not running.task.cancelled():
            running.task.exception()  # seen: nobody may be left to fetch it


def conflict(request_id: str) -> ConflictError:
    """The refusal of a request_id that already stands for another request."""
    return ConflictError(
        f"request_id {request_id} was used for another request within the last day; make a new one.",
        reason="REQUEST_ID_REUSED",
        field="request_id",
        metadata={"request_id": request_id},
    )
