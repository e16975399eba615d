"""How long and how hard a task is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headlift.errors import InvalidInputError

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Schedule:
    """Optimiser, averages, checkpoints and the end of a run, which comes with the first of `minutes` and `steps`.

    Raises:
        InvalidInputError: No end, or a value out of range.
    """

    steps: int | None = None  # optimiser steps
    minutes: float | None = None  # wall time, over all interruptions
    learning_rate: float = 1e-4
    final_share: float = 0.02  # of the learning rate, where the cosine ends
    warmup_steps: int = 200
    clip_norm: float | None = 1.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    accumulate: int = 1  # micro-batches a step, shared by all workers; at least one each
    ema_decay: float = 0.999  # 0 turns averaging off
    ema_power: float | None = None  # takes its place (`averages`): 0 is the mean of all steps, more forgets the start
    precision: Precision = "fp32"  # of the networks: bf16 is autocast on the task's device
    checkpoint_activations: bool = False
    checkpoint_minutes: float | None = 10.0  # None: never by time
    checkpoint_steps: int | None = None  # None: never by steps
    keep: int = 2  # checkpoints that stay, beside the best
    best: str | None = None  # figure that names the best checkpoint; a leading "-" means less is better
    figures_every: int | None = None  # steps; None: at the end only
    log_every: int = 20  # steps
    broken_steps_max: int = 20  # steps in a row whose loss or gradient is not finite, before the run gives up
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InvalidInputError("This schedule never ends; give steps, minutes, or both.")
        checks = (
            ("steps", self.steps is None or self.steps >= 0, "0 or more"),
            ("minutes", self.minutes is None or self.minutes >= 0, "0 or more"),
            ("learning_rate", self.learning_rate > 0, "over 0"),
            ("final_share", 0 <= self.final_share <= 1, "in 0..1"),
            ("warmup_steps", self.warmup_steps >= 0, "0 or more"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "over 0, or None"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            ("ema_decay", 0 <= self.ema_decay < 1, "in 0..1, below 1"),
            ("ema_power", self.ema_power is None or self.ema_power >= 0, "0 or more, or None"),
            ("precision", self.precision in ("fp32", "bf16"), "fp32 or bf16"),
            ("checkpoint_minutes", self.checkpoint_minutes is None or self.checkpoint_minutes > 0, "over 0, or None"),
            ("checkpoint_steps", self.checkpoint_steps is None or self.checkpoint_steps >= 1, "1 or more, or None"),
            ("keep", self.keep >= 1, "1 or more"),
            ("figures_every", self.figures_every is None or self.figures_every >= 1, "1 or more, or None"),
            ("log_every", self.log_every >= 1, "1 or more"),
            ("broken_steps_max", self.broken_steps_max >= 1, "1 or more"),
        )
        for name, fine, limit in checks:
            if not fine:
                raise InvalidInputError(f"Schedule.{name} is {getattr(self, name)!r}; it must be {limit}.")
