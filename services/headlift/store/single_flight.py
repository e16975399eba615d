"""Single flight: of many equal requests one computes, and the others take its result.

Within a process they share a future. Across processes a lease decides; who does not get it waits until the result
can be recalled, or the lease ends without one. A lost Redis costs doubled work, never an answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Generic, TypeVar

from headlift.errors import CancelledError, DeadlineError, StoreError

if TYPE_CHECKING:  # Redis's driver is imported where it is used
    from headlift.store.leases import Lease, Leases

T = TypeVar("T")
POLL_S = 0.02  # a poll is a few Redis commands; the work that is waited for takes tens of times longer
_LOCAL_POLL_S = 0.1  # how often a thread that waits for another one checks whether its caller has gone


class LeaseWaiter:
    """Waits for a lease that another process may hold, or for its result; for threads and coroutines alike."""

    def __init__(self, leases: Leases | None, name: str) -> None:
        self._leases, self._name = leases, name
        self._holder: object | None = None
        self._lease: Lease | None = None

    def should_compute(self) -> bool:
        """Whether to compute now; while not, recall, wait ``POLL_S`` and ask again."""
        if self._leases is None:
            return True
        try:
            self._lease = self._leases.acquire(self._name)
            if self._lease is not None:
                return True
            holder = self._leases.holder(self._name)
        except StoreError:
            return True
        # The first holder is done and left no result (its store may be out): to wait for the next one would make a
        # queue of all processes.
        is_next = self._holder is not None and holder != self._holder
        self._holder = holder or self._holder
        return is_next

    def release(self) -> None:
        """Release the lease, if it was acquired."""
        if self._leases is not None and self._lease is not None:
            with contextlib.suppress(StoreError):
                self._leases.release(self._lease)


class SingleFlight(Generic[T]):
    """Runs equal work once; for threads."""

    def __init__(self, leases: Leases | None = None) -> None:
        self._leases = leases
        self._flights: dict[str, Future[T]] = {}
        self._lock = threading.Lock()

    def run(
        self,
        name: str,
        recall: Callable[[], T | None],
        compute: Callable[[], T],
        check: Callable[[], None] = lambda: None,
    ) -> T:
        """The result of ``compute``, run once for all who ask for ``name`` meanwhile.

        Args:
            name: What the work is; a key of the store.
            recall: The result of an earlier run, if it was kept.
            compute: Does the work and keeps it, so that ``recall`` finds it.
            check: Raises once this caller has gone; others go on without it.
        """
        while True:
            with self._lock:
                flight = self._flights.get(name)
                leads = flight is None
                if flight is None:
                    flight = self._flights[name] = Future()
            if leads:
                return self._lead(flight, name, recall, compute, check)
            while not wait([flight], _LOCAL_POLL_S).done:
                check()
            try:
                return flight.result()
            except (CancelledError, DeadlineError):
                # The leader was cancelled, not this caller: one of those who wait takes its place.
                check()

    def _lead(
        self,
        flight: Future[T],
        name: str,
        recall: Callable[[], T | None],
        compute: Callable[[], T],
        check: Callable[[], None],
    ) -> T:
        try:
            result = self._once(name, recall, compute, check)
        except BaseException as error:
            self._remove(name)
            flight.set_exception(error)
            raise
        self._remove(name)
        flight.set_result(result)
        return result

    def _remove(self, name: str) -> None:
        with self._lock:
            del self._flights[name]

    def _once(
        self, name: str, recall: Callable[[], T | None], compute: Callable[[], T], check: Callable[[], None]
    ) -> T:
        waiter = LeaseWaiter(self._leases, name)
        try:
            while not waiter.should_compute():
                check()
                time.sleep(POLL_S)
                if (result := recall()) is not None:
                    return result
            # Also when the lease came at once: another process may have finished a moment ago.
            result = recall()
            return compute() if result is None else result
        finally:
            waiter.release()
