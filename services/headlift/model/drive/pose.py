"""What a head performs at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.drive.rig import ARKIT_NAMES
from headlift.model.types import _Tensors

MAX_GAZE = 0.7  # radians, about 40 degrees
MAX_TURN = 1.6  # radians


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape)


@dataclass(frozen=True)
class Performance(_Tensors):
    """Expression, gaze and turn of the head, relative to the head as it was made."""

    weights: Tensor = field(default_factory=lambda: _zeros(len(ARKIT_NAMES)))  # [52] in the order of ARKIT_NAMES
    gaze: Tensor = field(default_factory=lambda: _zeros(2, 2))  # left, right eye: yaw (+ head's left), pitch up, rad
    turn: Tensor = field(default_factory=lambda: _zeros(3))  # rotation vector of head and neck, radians

    @property
    def is_rest(self) -> bool:
        """Whether nothing moves."""
        return not bool(self.weights.any() or self.gaze.any() or self.turn.any())

    def validate(self) -> Self:
        """Return self, or raise InvalidInputError naming what is at fault."""
        for name, shape in (("weights", (len(ARKIT_NAMES),)), ("gaze", (2, 2)), ("turn", (3,))):
            value: Tensor = getattr(self, name)
            if tuple(value.shape) != shape or not bool(torch.isfinite(value).all()):
                raise InvalidInputError(
                    f"{name} has shape {tuple(value.shape)} or holds values that are not finite; {shape} is needed.",
                    field=f"expression.{name}",
                )
        for name, limit in (("gaze", MAX_GAZE), ("turn", MAX_TURN)):
            largest = float(getattr(self, name).abs().max())
            if largest > limit:
                raise InvalidInputError(
                    f"{name} reaches {largest:.3g} rad; at most {limit} is possible.", field=f"expression.{name}"
                )
        return self
