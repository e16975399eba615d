"""A bounded pool of threads with admission: heavy work never runs on the event loop, and never piles up."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from headlift.errors import OverloadedError
from headlift.stages.stop_token import DEADLINE, StopToken
from headlift.telemetry.metrics import metrics

T = TypeVar("T")
_SMOOTHING = 0.2  # weight of the latest duration in the running mean


class Workers:
    """``worker_count`` threads, and room for ``queue_size`` jobs to wait.

    A job whose awaiting task is cancelled is told so through its StopToken; until its thread has really ended it
    keeps its place, so that admission never lies.
    """

    def __init__(self, name: str, worker_count: int, queue_size: int) -> None:
        self.name = name
        self._worker_count = worker_count
        self._limit = worker_count + queue_size
        self._pool = ThreadPoolExecutor(worker_count, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._admitted = 0
        self._mean_s = 0.0
        self._metrics = metrics()
        self._metrics.queue_capacity.set(queue_size, pool=name)
        self._show()

    @property
    def admitted(self) -> int:
        """Jobs that run or wait."""
        return self._admitted

    async def run(self, job: Callable[[StopToken], T]) -> T:
        """Run ``job`` on a thread and await its result; its token knows the deadline of the call that is being served.

        Raises:
            OverloadedError: Too many jobs wait already; nothing was begun.
        """
        self._admit()
        token = StopToken(DEADLINE.get())
        try:
            # The thread sees the caller's context: log lines name its call, spans belong to its trace.
            future = self._pool.submit(copy_context().run, self._timed, job, token, time.perf_counter())
        except RuntimeError:  # the pool is shut down
            self._release()
            raise OverloadedError("The server is shutting down; ask another one, or try again soon.") from None
        future.add_done_callback(lambda _: self._release())
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            token.stop()
            raise

    def close(self) -> None:
        """Take no more jobs and wait for the running ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _timed(self, job: Callable[[StopToken], T], token: StopToken, asked: float) -> T:
        begin = time.perf_counter()
        self._metrics.queue_wait_seconds.observe(begin - asked, pool=self.name)
        token.check()
        result = job(token)
        with self._lock:
            taken = time.perf_counter() - begin
            self._mean_s = taken if self._mean_s == 0.0 else (1 - _SMOOTHING) * self._mean_s + _SMOOTHING * taken
        return result

    def _admit(self) -> None:
        with self._lock:
            if self._admitted >= self._limit:
                # Half the queue should have drained by then: late enough to help, early enough to keep threads busy.
                self._metrics.queue_refusals.inc(pool=self.name)
                wait_s = self._mean_s * math.ceil(self._admitted / self._worker_count) / 2
                raise OverloadedError(
                    f"{self._admitted} requests are being served or wait ({self.name}), which is the limit; try later.",
                    retry_after_s=min(max(wait_s, 0.1), 30.0),
                )
            self._admitted += 1
            self._show()

    def _release(self) -> None:
        with self._lock:
            self._admitted -= 1
            self._show()

    def _show(self) -> None:
        """A job waits when there are more than threads."""
        self._metrics.queue_running.set(min(self._admitted, self._worker_count), pool=self.name)
        self._metrics.queue_depth.set(max(self._admitted - self._worker_count, 0), pool=self.name)
