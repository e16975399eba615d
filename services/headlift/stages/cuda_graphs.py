"""CUDA graphs: the kernels of a network recorded once for each size of its input, and launched as one.

A view takes a dozen small kernels to sharpen, and at a live stream's sizes launching them costs more than running them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SIZES_MAX = 8  # recordings that are kept; each holds memory for its intermediate results
_WARM_UPS = 3  # runs before a recording: libraries choose their algorithms in the first ones


@dataclass(frozen=True)
class _Recording:
    given: Tensor
    answer: Tensor
    graph: torch.cuda.CUDAGraph


class Graphed:
    """A function of one tensor on a GPU, replayed from recordings. Thread-safe: one replay at a time.

    Args:
        function: Takes and gives a tensor; does nothing else, and the same for equal shapes.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._recordings: OrderedDict[tuple[int, ...], _Recording] = OrderedDict()

    def __call__(self, x: Tensor) -> Tensor:
        """The function of ``x``, a tensor of its own; on the CPU the function itself is called."""
        if x.device.type != "cuda":
            return self._function(x)
        with self._lock:
            recording = self._recordings.get(tuple(x.shape)) or self._record(x)
            self._recordings.move_to_end(tuple(x.shape))
            recording.given.copy_(x)
            recording.graph.replay()
            return recording.answer.clone()

    def _record(self, x: Tensor) -> _Recording:
        given = x.clone()
        aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self._function(given)
        torch.cuda.current_stream(x.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads go on computing
            answer = self._function(given)
        recording = self._recordings[tuple(x.shape)] = _Recording(given, answer, graph)
        if len(self._recordings) > SIZES_MAX:
            self._recordings.popitem(last=False)
        return recording
