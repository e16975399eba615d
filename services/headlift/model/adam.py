"""Adam (Kingma and Ba, 2015) for a handful of tensors: ``torch.optim`` spends a second importing a compiler first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETAS = (0.9, 0.97)  # memory of the first and of the second moment
EPS = 1e-15  # keeps the division finite; far below the gradients of a mean over pixels


class Adam:
    """Moves parameters against their gradients, each at its own rate."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        rates: Sequence[float],
        *,
        betas: tuple[float, float] = BETAS,
        eps: float = EPS,
        floor: float = 0.0,
    ) -> None:
        """Take over the parameters.

        Args:
            parameters: Leaves that require gradients.
            rates: One for each, in the parameter's unit: how far a step goes at most, nearly.
            betas: Memory of the first and of the second moment, 0..1.
            eps: Keeps the division finite.
            floor: Gradients below this share of their tensor's root mean square move in proportion instead of at full
                rate: what the picture barely touches (grazing or hidden Gaussians) stays nearly where it was.
        """
        self._parameters, self._rates = list(parameters), list(rates)
        self._betas, self._eps, self._floor, self._steps = betas, eps, floor, 0
        self._first = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]
        self._second = [torch.zeros_like(p, requires_grad=False) for p in self._parameters]

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, share: float = 1.0) -> None:
        """One step at ``share`` of the rates; parameters without a gradient stay."""
        self._steps += 1
        beta1, beta2 = self._betas
        correction1, correction2 = 1 - beta1**self._steps, math.sqrt(1 - beta2**self._steps)
        for parameter, rate, first, second in zip(
            self._parameters, self._rates, self._first, self._second, strict=True
        ):
            if parameter.grad is None:
                continue
            first.lerp_(parameter.grad, 1 - beta1)
            second.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
            lowest = self._eps
            if self._floor:
                lowest += self._floor * float(second.mean().sqrt()) / correction2
            spread = second.sqrt().div_(correction2).add_(lowest)
            parameter.addcdiv_(first, spread, value=-share * rate / correction1)
