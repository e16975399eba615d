"""Where the time of a training step goes: data, network, splatting, loss, optimiser.

Code says which phase it is in; outside `measured` that costs next to nothing. Backward has no code of its own, so
tensors on the borders of phases are marked: when the gradient of a marked tensor arrives, the time since the last
event belongs to the phase that the tensor came into (which is run backwards before it).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Profiler:
    """Seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0

    def restart(self) -> None:
        """Time from here on belongs to the next event."""
        self._last = _now()

    def event(self, phase: str) -> None:
        """Time since the last event belongs to `phase`."""
        now = _now()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


_current: ContextVar[Profiler | None] = ContextVar("profiler", default=None)


@contextmanager
def measured() -> Iterator[Profiler]:
    """A profiler that runs within the block."""
    profiler = Profiler()
    profiler.restart()
    token = _current.set(profiler)
    try:
        yield profiler
    finally:
        _current.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Code of this phase; what ran since the last event and before the block belongs to "other"."""
    profiler = _current.get()
    if profiler is None:
        yield
        return
    profiler.event("other")
    yield
    profiler.event(name)


def mark_backward(tensor: Tensor, name: str) -> Tensor:
    """The tensor, where it enters phase `name`: backward up to here counts as that phase."""
    profiler = _current.get()
    if profiler is not None and tensor.requires_grad:

        def arrived(gradient: Tensor) -> Tensor:
            profiler.event(name)
            return gradient

        tensor.register_hook(arrived)  # type: ignore[no-untyped-call]
    return tensor


def flush(name: str) -> None:
    """Time since the last event belongs to phase `name`: what backward did after the last border."""
    profiler = _current.get()
    if profiler is not None:
        profiler.event(name)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
