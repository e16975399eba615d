"""Heads on their way out: keyframes and deltas."""

from __future__ import annotations

from dataclasses import dataclass

from headlift.formats.delta import DeltaEncoder, DeltaOptions
from headlift.gateway.draw import HeadRef

_WORTH = 0.9  # a delta that is not smaller than this part of a whole head is not worth its dependence


@dataclass(frozen=True)
class SentHead:
    """A head as it is sent."""

    data: bytes
    is_delta: bool
    base: int = 0  # sequence of the head that a delta changes


class HeadSender:
    """One session's sequence of heads; runs on a thread, one head at a time."""

    def __init__(self, options: DeltaOptions | None = None) -> None:
        self._encoder = DeltaEncoder(options)
        self._last: int | None = None

    def pack(self, sequence: int, head: HeadRef, keyframe: bool) -> SentHead:
        """``head`` as a delta where that helps, else whole; may wait for the store."""
        packed = head.packed()
        base, self._last = self._last, sequence
        delta = None if keyframe or base is None else self._encoder.delta(head.unpacked())
        if base is None or delta is None or len(delta) > _WORTH * len(packed):
            return SentHead(self._encoder.keyframe(packed), is_delta=False)
        return SentHead(delta, True, base)
