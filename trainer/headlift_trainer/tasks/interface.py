"""What a training task is: a module, the batches that it learns from, and its loss.

`loop.run` trains any task by any schedule; `job.run_job` runs the same loop on many workers. A task draws its own
batches, and only from the generator it is given: that is what makes an interrupted run equal to an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class Task(Protocol):
    """What is trained. The loop moves batches to the module's device and sets the precision of `loss`."""

    name: str

    @property
    def module(self) -> nn.Module:
        """What a checkpoint holds."""
        ...

    def parameters(self) -> Sequence[nn.Parameter]:
        """What the optimiser moves, always in the same order."""
        ...

    def draw(self, generator: torch.Generator) -> Any:
        """A micro-batch on the CPU: tensors, or tuples and dataclasses of them."""
        ...

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a micro-batch and its parts by name; `generator` goes on from where `draw` left it."""
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
