"""A moving average of trained parameters: what figures are taken of and what is shipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged_model(parameters: Iterable[nn.Parameter], decay: float, power: float | None = None) -> AveragedModel:
    """Averages of parameters alone: a copy of the whole module would copy its frozen networks too.

    Early on the average is short, so that it forgets the start, which counts as the first of `n_averaged`.

    Args:
        parameters: In a fixed order.
        decay: 0..1, of the long average.
        power: Not None: a power of time takes decay's place (Karras et al., 2024, "Analyzing and Improving the
            Training Dynamics of Diffusion Models"). The parameters after step t count as t to this power; at 0 all
            count the same, those before the first step too.
    """

    def average(averages: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        updates = int(count)
        kept = min(decay, (1 + updates) / (20 + updates)) if power is None else (updates / (updates + 1)) ** (power + 1)
        torch._foreach_lerp_(list(averages), list(current), 1 - kept)

    live = nn.ParameterList(parameters)
    model = AveragedModel(live, multi_avg_fn=average)
    model.update_parameters(live)
    return model


@torch.no_grad()
def fill(parameters: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    """Give parameters other values, in place."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@contextmanager
def filled(parameters: Sequence[Tensor], values: Iterable[Tensor]) -> Iterator[None]:
    """The parameters with other values, within the block."""
    kept = [p.detach().clone() for p in parameters]
    fill(parameters, values)
    try:
        yield
    finally:
        fill(parameters, kept)
