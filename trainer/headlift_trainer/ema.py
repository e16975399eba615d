"""A moving average of trained parameters: what figures are taken of and what is shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Follows parameters; early on the average is short, so that it forgets the start.

    Args:
        parameters: By name.
        decay: 0..1, of the long average.
        power: Not None: a power of time takes decay's place (Karras et al., 2024, "Analyzing and Improving the
            Training Dynamics of Diffusion Models"). The parameters after step t count as t to this power; at 0 all
            count the same, those before the first step too.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, power: float | None = None) -> None:
        self._parameters = dict(parameters)
        self._decay, self._power = decay, power
        self.shadow = {name: p.detach().clone() for name, p in self._parameters.items()}
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move a step towards the parameters."""
        self.updates += 1
        if self._power is None:
            decay = min(self._decay, (1 + self.updates) / (20 + self.updates))
        else:
            decay = (self.updates / (self.updates + 1)) ** (self._power + 1)
        torch._foreach_lerp_(list(self.shadow.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with its averaged parameters, within the block."""
        kept = {name: p.detach().clone() for name, p in self._parameters.items()}
        self.keep()
        try:
            yield
        finally:
            self._fill(kept)

    def keep(self) -> None:
        """Leave the averaged parameters in the module."""
        self._fill(self.shadow)

    @torch.no_grad()
    def restore(self, shadow: Mapping[str, Tensor], updates: int) -> None:
        """Go on from an earlier average."""
        self.updates = updates
        for name, value in self.shadow.items():
            value.copy_(shadow[name])

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, p in self._parameters.items():
            p.copy_(values[name])
