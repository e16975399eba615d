"""The One Euro filter (Casiez, Roussel and Vogel, CHI 2012): steady at rest, quick in motion, for live coefficients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headlift.errors import InvalidInputError


class OneEuro:
    """Smooths vectors that come with their times. One instance a stream; not safe for several threads."""

    def __init__(self, min_cutoff_hz: float = 1.5, beta: float = 4.0, derivative_cutoff_hz: float = 1.0) -> None:
        """Lower ``min_cutoff_hz`` shakes less at rest; higher ``beta`` lags less in motion.

        Raises:
            InvalidInputError: A cutoff that is not above 0, or a negative beta.
        """
        if min(min_cutoff_hz, derivative_cutoff_hz) <= 0 or beta < 0:
            raise InvalidInputError(
                f"Cutoffs {min_cutoff_hz} and {derivative_cutoff_hz} Hz must be above 0, beta {beta} at least 0."
            )
        self._min_cutoff, self._beta, self._derivative_cutoff = min_cutoff_hz, beta, derivative_cutoff_hz
        self._time_s: float | None = None
        self._value, self._speed = torch.zeros(0), torch.zeros(0)

    def __call__(self, value: Tensor, time_s: float) -> Tensor:
        """The smoothed value [E]. A time that does not go on from the last one leaves the filter as it is."""
        if self._time_s is None or value.shape != self._value.shape:
            self._value, self._speed = value.clone(), torch.zeros_like(value)
        elif time_s > self._time_s:
            step = time_s - self._time_s
            speed = (value - self._value) / step
            self._speed = torch.lerp(self._speed, speed, self._share(torch.tensor(self._derivative_cutoff), step))
            cutoff = self._min_cutoff + self._beta * self._speed.abs()
            self._value = torch.lerp(self._value, value, self._share(cutoff, step))
        else:
            return self._value.clone()
        self._time_s = time_s
        return self._value.clone()

    @staticmethod
    def _share(cutoff_hz: Tensor, step_s: float) -> Tensor:
        turned = 2 * math.pi * cutoff_hz * step_s
        return turned / (turned + 1)
