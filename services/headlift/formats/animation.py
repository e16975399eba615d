"""Animations as JSON: names once, then weights with their times, as LAM writes them.

    {"names": ["jawOpen", ...], "frames": [{"weights": [0.1, ...], "time": 0.0}, ...]}

Times are seconds. What else stands in the file (metadata, rotations) is passed over.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass

from headlift.errors import FormatError

MAX_FRAMES = 100_000


@dataclass(frozen=True)
class AnimationFrame:
    """Weights at one moment."""

    time_s: float
    weights: tuple[float, ...]  # one a name, 0..1


@dataclass(frozen=True)
class AnimationTrack:
    """How a face moves."""

    names: tuple[str, ...]
    frames: tuple[AnimationFrame, ...]  # times ascend

    def at(self, time_s: float) -> tuple[float, ...]:
        """Weights at a time, linear between frames; before and behind them those of the nearest one."""
        times = self.frames
        if time_s <= times[0].time_s:
            return times[0].weights
        for before, after in itertools.pairwise(times):
            if time_s < after.time_s:
                share = (time_s - before.time_s) / (after.time_s - before.time_s)
                return tuple(a + share * (b - a) for a, b in zip(before.weights, after.weights, strict=True))
        return times[-1].weights


def read_animation(data: bytes) -> AnimationTrack:
    """Read an animation. Weights just outside 0..1, as estimators give them, are clamped.

    Raises:
        FormatError: It is no JSON of this form, has no frames or too many, times do not ascend, or a weight is missing.
    """
    try:
        read = json.loads(data)
        names = tuple(str(name) for name in read["names"])
        frames = tuple(
            AnimationFrame(float(frame["time"]), tuple(_clamped(float(w)) for w in frame["weights"]))
            for frame in read["frames"]
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise FormatError(
            'An animation is JSON of the form {"names": [...], "frames": [{"weights": [...], "time": seconds}]}.'
        ) from error
    if not 1 <= len(frames) <= MAX_FRAMES or not names:
        raise FormatError(f"An animation has 1..{MAX_FRAMES} frames and at least one name; this has {len(frames)}.")
    for i, frame in enumerate(frames):
        if len(frame.weights) != len(names):
            raise FormatError(f"Frame {i} has {len(frame.weights)} weights for {len(names)} names.")
        if not math.isfinite(frame.time_s) or (i and frame.time_s <= frames[i - 1].time_s):
            raise FormatError(f"Times must ascend; frame {i} is at {frame.time_s} s.")
        if not all(math.isfinite(weight) for weight in frame.weights):
            raise FormatError(f"Frame {i} holds a weight that is not finite.")
    return AnimationTrack(names, frames)


def _clamped(weight: float) -> float:
    """0..1; what is not finite stays, and is refused by name."""
    return min(1.0, max(0.0, weight)) if math.isfinite(weight) else weight


def write_animation(animation: AnimationTrack) -> bytes:
    """The same form."""
    frames = [{"weights": list(frame.weights), "time": frame.time_s} for frame in animation.frames]
    return json.dumps({"names": list(animation.names), "frames": frames}).encode()
