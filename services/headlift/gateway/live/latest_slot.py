"""Input that was received and not handled yet: the newest frame, the newest viewpoint, and nothing else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from headlift.errors import InvalidInputError
from headlift.gateway.live import metrics
from headlift.v1 import camera_pb2
from headlift.v1 import live_pb2 as pb

REPORTED_MAX = 64  # sequences in one report; the count beside them is of all
Kind = Literal["frame", "viewpoint"]


@dataclass(frozen=True)
class PendingInput:
    """A frame or a viewpoint, and when it was received."""

    kind: Kind
    sequence: int
    timestamp_us: int
    picture: bytes = b""
    camera: camera_pb2.Camera | None = None
    received: float = field(default_factory=time.monotonic)

    @property
    def age_s(self) -> float:
        """Seconds since it was received."""
        return time.monotonic() - self.received


@dataclass
class _Dropped:
    count: int = 0
    sequences: deque[int] = field(default_factory=lambda: deque(maxlen=REPORTED_MAX))


class LatestSlot:
    """One slot a kind of input; what is replaced is dropped, and reported."""

    def __init__(self) -> None:
        self._slots: dict[Kind, PendingInput] = {}
        self._dropped: dict[pb.LiveDropReason.ValueType, _Dropped] = {}
        self._last_sequence = 0
        self._dropped_since_answer = 0

    def __len__(self) -> int:
        return len(self._slots)

    def check_sequence(self, sequence: int) -> None:
        """Refuse a sequence that is not greater than those before. InvalidInputError: it is not."""
        if sequence <= self._last_sequence:
            raise InvalidInputError(
                f"sequence is {sequence}; it must be greater than {self._last_sequence}, the one before.",
                reason="BAD_SEQUENCE",
                field="sequence",
            )
        self._last_sequence = sequence

    def put(self, pending: PendingInput) -> None:
        """Replace the older input of its kind."""
        if (older := self._slots.get(pending.kind)) is not None:
            self.drop(pb.LIVE_DROP_REASON_REPLACED, [older.sequence])
        self._slots[pending.kind] = pending

    def take(self) -> PendingInput | None:
        """Remove and return the input with the lowest sequence."""
        if not self._slots:
            return None
        return self._slots.pop(min(self._slots, key=lambda kind: self._slots[kind].sequence))

    def close(self) -> None:
        """Drop what is left: the session has ended."""
        self.drop(pb.LIVE_DROP_REASON_CLOSED, sorted(pending.sequence for pending in self._slots.values()))
        self._slots.clear()

    def drop(self, reason: pb.LiveDropReason.ValueType, sequences: Iterable[int]) -> None:
        """Count and report inputs that will not be answered."""
        for sequence in sequences:
            dropped = self._dropped.setdefault(reason, _Dropped())
            dropped.count += 1
            dropped.sequences.append(sequence)
            self._dropped_since_answer += 1
            metrics.count_dropped(reason)

    def report(self) -> pb.LiveDropped | None:
        """What was dropped for one reason since its last report; None where nothing was."""
        if not self._dropped:
            return None
        reason, dropped = self._dropped.popitem()
        return pb.LiveDropped(sequences=dropped.sequences, count=dropped.count, reason=reason)

    def dropped_since_answer(self) -> int:
        """How many inputs were dropped since the last call."""
        count, self._dropped_since_answer = self._dropped_since_answer, 0
        return count
