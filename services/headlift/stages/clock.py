"""Where stages note their time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class StageClock(Protocol):
    """What measures stages; the gateway's also traces them and reports progress."""

    def timing(self, stage: str) -> AbstractContextManager[None]:
        """Add the wall time inside the block to ``stage``."""
        ...


@dataclass
class PlainClock:
    """Wall time of each stage and nothing else."""

    spent_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """See StageClock."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + (time.perf_counter() - begin) * 1e3
