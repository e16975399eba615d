"""Unpacked heads in memory, so that a second picture of a head does not read it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import fields

from headlift.model.types import Gaussians


class RecentHeads:
    """Least-recently-used heads within a bound on bytes; thread-safe."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._heads: OrderedDict[str, Gaussians] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Memory in use, never above the bound."""
        return self._bytes

    def get(self, name: str) -> Gaussians | None:
        """The head, which thereby becomes the most recent one."""
        with self._lock:
            if name in self._heads:
                self._heads.move_to_end(name)
            return self._heads.get(name)

    def put(self, name: str, head: Gaussians) -> None:
        """Keep a head and drop the oldest ones that no longer fit; one that never fits is not kept."""
        size = memory_bytes(head)
        with self._lock:
            self._drop(name)
            if size > self._bytes_max:
                return
            self._heads[name] = head
            self._bytes += size
            while self._bytes > self._bytes_max:
                self._drop(next(iter(self._heads)))

    def drop(self, name: str) -> None:
        """Drop a head, if it is kept."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        head = self._heads.pop(name, None)
        if head is not None:
            self._bytes -= memory_bytes(head)


def memory_bytes(head: Gaussians) -> int:
    """Bytes of a head's tensors."""
    return sum(getattr(head, f.name).nbytes for f in fields(head))
