"""Metrics of live sessions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headlift.telemetry.metrics import metrics
from headlift.v1 import live_pb2 as pb

_KINDS = {"view": "view", "head_keyframe": "keyframe", "head_delta": "delta"}


@contextmanager
def counted_session() -> Iterator[None]:
    """Count an open session for as long as the block lasts."""
    metrics().live_sessions.inc()
    try:
        yield
    finally:
        metrics().live_sessions.dec()


def count_sent(answer: pb.LiveResponse) -> None:
    """Count a view or a head."""
    message = answer.WhichOneof("message") or ""
    kind = _KINDS[message]
    metrics().live_sent.inc(kind=kind)
    metrics().live_sent_bytes.inc(len(getattr(answer, message).data), kind=kind)


def count_dropped(reason: pb.LiveDropReason.ValueType) -> None:
    """Count a frame or viewpoint that will not be answered."""
    name = pb.LiveDropReason.Name(reason).removeprefix("LIVE_DROP_REASON_").lower()
    metrics().live_dropped.inc(reason=name)
