"""What a caller sent and nobody has looked at yet: the newest frame, the newest viewpoint, and nothing else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from headlift.errors import InvalidInputError
from headlift.v1 import camera_pb2
from headlift.v1 import live_pb2 as pb

REPORTED_MAX = 64  # sequences in one report
Kind = Literal["frame", "viewpoint"]


@dataclass(frozen=True)
class Letter:
    """A frame or a viewpoint, and when it came."""

    kind: Kind
    sequence: int
    timestamp_us: int
    picture: bytes = b""
    camera: camera_pb2.Camera | None = None
    arrived: float = field(default_factory=time.monotonic)

    @property
    def age_s(self) -> float:
        """Seconds since it came."""
        return time.monotonic() - self.arrived


@dataclass
class _Lost:
    count: int = 0
    sequences: deque[int] = field(default_factory=lambda: deque(maxlen=REPORTED_MAX))


class Mailbox:
    """One slot a kind; what is replaced is lost, and told."""

    def __init__(self, on_lost: Callable[[pb.LiveDropReason.ValueType, int], None] = lambda *_: None) -> None:
        """``on_lost`` hears of every loss: why, and how many."""
        self._on_lost = on_lost
        self._slots: dict[Kind, Letter] = {}
        self._lost: dict[pb.LiveDropReason.ValueType, _Lost] = {}
        self._last = 0
        self._since_answer = 0

    def __len__(self) -> int:
        return len(self._slots)

    def number(self, sequence: int) -> None:
        """Take note of a sequence. InvalidInputError: it is not greater than those before."""
        if sequence <= self._last:
            raise InvalidInputError(
                f"sequence is {sequence}; it must be greater than {self._last}, the one before.",
                reason="BAD_SEQUENCE",
                field="sequence",
            )
        self._last = sequence

    def put(self, letter: Letter) -> None:
        """Keep a letter in place of the older one of its kind."""
        if (older := self._slots.get(letter.kind)) is not None:
            self.lose(pb.LIVE_DROP_REASON_REPLACED, [older.sequence])
        self._slots[letter.kind] = letter

    def take(self) -> Letter | None:
        """The letter that came first."""
        if not self._slots:
            return None
        return self._slots.pop(min(self._slots, key=lambda kind: self._slots[kind].sequence))

    def empty(self) -> None:
        """Nobody will look any more."""
        self.lose(pb.LIVE_DROP_REASON_CLOSED, sorted(letter.sequence for letter in self._slots.values()))
        self._slots.clear()

    def lose(self, reason: pb.LiveDropReason.ValueType, sequences: Iterable[int]) -> None:
        """Take note of letters that will not be answered."""
        for sequence in sequences:
            lost = self._lost.setdefault(reason, _Lost())
            lost.count += 1
            lost.sequences.append(sequence)
            self._since_answer += 1
            self._on_lost(reason, 1)

    def report(self) -> pb.LiveDropped | None:
        """What was lost for one reason since it was told; None where nothing was."""
        if not self._lost:
            return None
        reason, lost = self._lost.popitem()
        return pb.LiveDropped(sequences=lost.sequences, count=lost.count, reason=reason)

    def lost_since_answer(self) -> int:
        """How many were lost since this was asked last."""
        count, self._since_answer = self._since_answer, 0
        return count
