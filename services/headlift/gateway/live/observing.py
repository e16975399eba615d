"""What is told about live sessions to whoever counts."""

from __future__ import annotations

from typing import Protocol

from headlift.telemetry.metrics import metrics
from headlift.v1 import live_pb2 as pb

_KINDS = {"view": "view", "head_keyframe": "keyframe", "head_delta": "delta"}


class LiveObserver(Protocol):
    """Told of everything that happens in sessions; quick, and without exceptions."""

    def opened(self) -> None:
        """A session has begun."""
        ...

    def closed(self) -> None:
        """A session has ended."""
        ...

    def sent(self, answer: pb.LiveResponse) -> None:
        """A view or a head was made for a caller."""
        ...

    def dropped(self, reason: pb.LiveDropReason.ValueType, count: int) -> None:
        """Frames or viewpoints will not be answered."""
        ...


class Metered:
    """Counts in the process's metrics."""

    def opened(self) -> None:
        """See LiveObserver."""
        metrics().live_sessions.inc()

    def closed(self) -> None:
        """See LiveObserver."""
        metrics().live_sessions.dec()

    def sent(self, answer: pb.LiveResponse) -> None:
        """See LiveObserver."""
        kind = answer.WhichOneof("message") or ""
        named = _KINDS[kind]
        metrics().live_sent.inc(kind=named)
        metrics().live_sent_bytes.inc(len(getattr(answer, kind).data), kind=named)

    def dropped(self, reason: pb.LiveDropReason.ValueType, count: int) -> None:
        """See LiveObserver."""
        name = pb.LiveDropReason.Name(reason).removeprefix("LIVE_DROP_REASON_").lower()
        metrics().live_dropped.inc(count, reason=name)
