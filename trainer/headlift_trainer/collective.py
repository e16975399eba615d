"""What several workers agree on in a step, over `torch.distributed`; for one worker everything stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from headlift.errors import InvalidInputError

_BUCKET = 8 << 20  # numbers that are sent at once


@dataclass(frozen=True)
class WorkerRank:
    """Which of the workers this process is.

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


class Collective:
    """The workers of one run.

    Raises:
        InvalidInputError: There should be several workers, and no process group has been opened.
    """

    def __init__(self, worker: WorkerRank) -> None:
        self._alone = worker.world_size == 1
        if not self._alone and not (dist.is_initialized() and dist.get_world_size() == worker.world_size):
            raise InvalidInputError(
                f"{worker.world_size} workers need a torch.distributed process group of that size; start them with "
                "headlift_trainer.job, or run one worker."
            )

    def equalise(self, module: nn.Module) -> None:
        """Give every worker the first one's parameters and buffers."""
        if not self._alone:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the workers.

        A gradient that a worker lacks counts as zero; one that all lack stays absent, as with one worker.
        """
        if self._alone:
            return
        device = parameters[0].device
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        dist.all_reduce(present)
        bucket: list[Tensor] = []
        for parameter, count in zip(parameters, present.tolist(), strict=True):
            if not count:
                continue
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            parameter.grad = gradient
            full = sum(g.numel() for g in bucket) + gradient.numel() > _BUCKET
            if bucket and (full or bucket[0].dtype != gradient.dtype):
                _sum(bucket)
                bucket = []
            bucket.append(gradient)
        if bucket:
            _sum(bucket)

    def sum(self, value: float, device: torch.device) -> float:
        """Sum over the workers."""
        if self._alone:
            return value
        sent = torch.tensor([value], dtype=torch.float64, device=device)
        dist.all_reduce(sent)
        return float(sent)

    def from_first(self, *values: float) -> tuple[float, ...]:
        """The first worker's numbers, for all."""
        if self._alone:
            return values
        sent = torch.tensor(values, dtype=torch.float64, device=_wire_device())
        dist.broadcast(sent, 0)
        return tuple(sent.tolist())

    def wait(self) -> None:
        """Until all workers are here."""
        if not self._alone:
            dist.barrier()


def _sum(bucket: list[Tensor]) -> None:
    """Sum tensors of one type over the workers, in one message."""
    flat = torch.cat([g.flatten() for g in bucket])
    dist.all_reduce(flat)
    for g, total in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
        g.copy_(total.view_as(g))


def _wire_device() -> torch.device:
    """Where tensors must be for the process group to send them."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
