"""Where stages note their time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from headlift.stages import progress
from headlift.telemetry.metrics import metrics
from headlift.telemetry.tracing import span
from headlift.v1 import head_pb2


class StageClock(Protocol):
    """What measures stages; a ``Stopwatch`` also traces them and reports progress."""

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


@dataclass
class Stopwatch:
    """Wall time per stage, in order of first use."""

    spent_ms: dict[str, float] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time inside the block to ``stage``; in a trace it is a span, and listeners hear of it."""
        progress.report(stage)
        self.cached.discard(stage)
        begin = time.perf_counter()
        try:
            with span(f"stage {stage}"):
                yield
        finally:
            self.add(stage, (time.perf_counter() - begin) * 1e3)

    def add(self, stage: str, duration_ms: float) -> None:
        """Add to the time of ``stage``."""
        self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + duration_ms

    def add_all(self, timings: Iterable[head_pb2.StageTiming]) -> None:
        """Add what another watch has measured."""
        for timing in timings:
            self.add(timing.stage, timing.duration_ms)

    @property
    def timings(self) -> list[head_pb2.StageTiming]:
        """As messages."""
        return [
            head_pb2.StageTiming(stage=s, duration_ms=ms, cached=s in self.cached) for s, ms in self.spent_ms.items()
        ]


def count_stages(timings: Iterable[head_pb2.StageTiming]) -> None:
    """Put the stages of one request into the metrics, wherever they ran; once per request."""
    seconds = metrics().stage_seconds
    for timing in timings:
        seconds.observe(timing.duration_ms / 1e3, stage=timing.stage, cached="true" if timing.cached else "false")
