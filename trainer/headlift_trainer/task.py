"""What a training run is made of: a task (module, data, loss) and a schedule (how long and how hard).

`loop.run` trains any task by any schedule; `job.run_job` runs the same loop on many workers. A task draws its own
batches, and only from the generator it is given: that is what makes an interrupted run equal to an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError


@dataclass(frozen=True)
class Share:
    """Which part of the work this process does.

    Raises:
        InvalidInputError: There is no such rank.
    """

    rank: int = 0  # 0..world_size - 1
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise InvalidInputError(
                f"Rank {self.rank} of {self.world_size} workers: ranks run from 0 to {self.world_size - 1}."
            )


class ParameterGroup(TypedDict):
    """Parameters that share a learning rate (`lr_scale` times the schedule's) and perhaps a weight decay."""

    params: list[nn.Parameter]
    lr_scale: NotRequired[float]
    weight_decay: NotRequired[float]


class Task(Protocol):
    """What is trained: a module, its data and its loss. All randomness comes from the generator given."""

    name: str

    @property
    def module(self) -> nn.Module:
        """What a checkpoint holds."""
        ...

    def parameters(self) -> Sequence[nn.Parameter] | Sequence[ParameterGroup]:
        """What the optimiser moves, always in the same order."""
        ...

    def loss(self, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch; the loss of this worker's micro-batch and its parts by name."""
        ...

    def figures(self) -> dict[str, float]:
        """Held-out figures of the module as it stands."""
        ...

    def pictures(self) -> dict[str, Tensor]:
        """Pictures [3, H, W] in 0..1, by name, for people to look at."""
        ...


@runtime_checkable
class Checkpointing(Protocol):
    """A task that can trade time for memory: keep only some activations and compute the others twice."""

    def checkpoint_activations(self, on: bool) -> None:
        """Switch it on or off, for the losses that follow."""
        ...


@runtime_checkable
class Releasing(Protocol):
    """A task that writes files of its own (the model as others load it) at each checkpoint and at the end."""

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write them into a folder that exists; the averaged parameters are in the module."""
        ...


Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Schedule:
    """How long and how hard a task is trained. It ends with the first of `minutes` and `steps`.

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
    ema_power: float | None = None  # takes its place (ema.Ema): 0 is the mean of all steps, more forgets the start
    precision: Precision = "fp32"
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
