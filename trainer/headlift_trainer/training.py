"""The state of a run and its single step: gradients, clipping, rates, averages, and what a checkpoint holds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from headlift.errors import HeadliftError, IncompatibleWeightsError, InvalidInputError
from headlift_trainer.checkpoints import Snapshot
from headlift_trainer.clock import phase, settle
from headlift_trainer.collective import Collective
from headlift_trainer.ema import Ema
from headlift_trainer.task import Checkpointing, ParameterGroup, Schedule, Share, Task


class TrainingDivergedError(HeadliftError):
    """The loss or its gradient was not finite for too many steps in a row."""

    code = "FAILED_PRECONDITION"
    default_reason = "TRAINING_DIVERGED"


class Training:
    """A task under training.

    Raises:
        InvalidInputError: The task moves a parameter that its module does not hold, or none at all.
    """

    def __init__(self, task: Task, schedule: Schedule, share: Share, collective: Collective) -> None:
        self.task, self.schedule, self.share = task, schedule, share
        self._collective = collective
        groups = _groups(task)
        self._parameters = _named(task.module, groups)
        self._optimizer = torch.optim.AdamW(
            cast(list[dict[str, Any]], groups),
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self._ema = Ema(self._parameters, schedule.ema_decay, schedule.ema_power) if schedule.ema_decay else None
        self.device = next(iter(self._parameters.values())).device
        self.step = 0  # steps done, the skipped ones included
        self.seconds = 0.0  # wall time, of all attempts
        self.skipped = 0
        self.figures: dict[str, float] = {}
        self.figures_step = -1
        self._broken = 0  # skipped steps in a row
        if schedule.accumulate < share.world_size:
            raise InvalidInputError(
                f"{schedule.accumulate} micro-batches a step cannot be shared by {share.world_size} workers; set "
                f"Schedule.accumulate to {share.world_size} or more, best a multiple."
            )
        if isinstance(task, Checkpointing):
            task.checkpoint_activations(schedule.checkpoint_activations)
        elif schedule.checkpoint_activations:
            raise InvalidInputError(
                f"The task {task.name!r} cannot checkpoint activations; set Schedule.checkpoint_activations to False."
            )

    def done(self) -> float:
        """Share of the run that is done; it ends at 1."""
        by_steps = 0.0 if self.schedule.steps is None else _share(self.step, self.schedule.steps)
        by_time = 0.0 if self.schedule.minutes is None else _share(self.seconds, 60 * self.schedule.minutes)
        return max(by_steps, by_time)

    def rate(self) -> float:
        """Share of the learning rate: a linear warm-up, then a cosine down to `final_share`."""
        low = self.schedule.final_share
        cosine = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(self.done(), 1.0)))
        return cosine * min(1.0, (self.step + 1) / max(1, self.schedule.warmup_steps))

    def advance(self) -> dict[str, float]:
        """One step; the loss, its parts, the gradient's norm and the rate.

        Raises:
            TrainingDivergedError: Too many steps in a row were not finite.
        """
        rate = self.rate()
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * rate * group["lr_scale"]
        parts = self._gradients()
        with phase("optimiser"):
            norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), self.schedule.clip_norm or math.inf))
            if math.isfinite(norm) and math.isfinite(parts["loss"]):
                self._optimizer.step()
                if self._ema is not None:
                    self._ema.update()
                self._broken = 0
            else:
                self._skip(parts["loss"], norm)
        self.step += 1
        return parts | {"gradient_norm": norm, "learning_rate": self.schedule.learning_rate * rate}

    def snapshot(self) -> Snapshot:
        """Everything that `restore` needs."""
        tensors = {f"module.{name}": value for name, value in self.task.module.state_dict().items()}
        if self._ema is not None:
            tensors |= {f"average.{name}": value for name, value in self._ema.shadow.items()}
        for name, parameter in self._parameters.items():
            tensors |= {f"optimizer.{name}.{k}": v for k, v in self._optimizer.state[parameter].items()}
        facts = {
            "task": self.task.name,
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "broken": self._broken,
            "updates": 0 if self._ema is None else self._ema.updates,
            "figures": self.figures,
            "figures_step": self.figures_step,
            "schedule": asdict(self.schedule),
        }
        return Snapshot(tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; the schedule may be another one, for a run that is to go on for longer.

        Raises:
            IncompatibleWeightsError: It is of another task, or of a module of another shape.
        """
        facts, tensors = snapshot.facts, snapshot.tensors
        if facts["task"] != self.task.name:
            raise IncompatibleWeightsError(
                f"The checkpoint is of the task {facts['task']!r}, and this is {self.task.name!r}; give another folder."
            )
        try:
            self.task.module.load_state_dict(_under("module.", tensors))
            if self._ema is not None:
                averages = _under("average.", tensors)
                # A run without averages that goes on with them starts them from where it is.
                self._ema.restore(averages or self._parameters, int(facts["updates"]))
            self._restore_optimizer(tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            raise IncompatibleWeightsError(
                f"The checkpoint does not fit the task {self.task.name!r}, whose module has changed; start anew."
            ) from error
        self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        self.skipped, self._broken = int(facts["skipped"]), int(facts["broken"])
        self.figures, self.figures_step = dict(facts["figures"]), int(facts["figures_step"])

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The module as it is judged: averaged, in evaluation mode, without gradients."""
        module = self.task.module
        modes = {m: m.training for m in module.modules()}
        with torch.no_grad(), nullcontext() if self._ema is None else self._ema.applied():
            module.eval()
            try:
                yield
            finally:
                for m, mode in modes.items():
                    m.training = mode

    def keep_averages(self) -> None:
        """Leave the averaged parameters in the module."""
        if self._ema is not None:
            self._ema.keep()

    def _gradients(self) -> dict[str, float]:
        """Fill the gradients from this step's micro-batches; their mean loss, and the parts of this worker's own."""
        self._optimizer.zero_grad(set_to_none=True)
        count = self.schedule.accumulate
        own = range(self.share.rank, count, self.share.world_size)
        total, sums = 0.0, dict[str, float]()
        for index in own:
            generator = self._generator(index)
            with self._autocast():
                loss, parts = self.task.loss(generator, self.share)
            (loss / count).backward()  # type: ignore[no-untyped-call]
            settle("network")
            total += float(loss.detach()) / count
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value / len(own)
        self._collective.sum_gradients(list(self._parameters.values()))
        return {"loss": self._collective.sum(total, self.device)} | {k: v for k, v in sums.items() if k != "loss"}

    def _generator(self, index: int) -> torch.Generator:
        """The randomness of one micro-batch of this step: the same however many workers share the step."""
        text = f"{self.schedule.seed}/{self.step}/{index}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
        torch.manual_seed(seed)  # for dropout and the like, which draw from the global generator
        return torch.Generator().manual_seed(seed)

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        if self.schedule.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _skip(self, loss: float, norm: float) -> None:
        """Count a step that must not touch the parameters."""
        self.skipped += 1
        self._broken += 1
        if self._broken >= self.schedule.broken_steps_max:
            raise TrainingDivergedError(
                f"Loss ({loss:g}) or gradient norm ({norm:g}) was not finite in {self._broken} steps in a row, up to "
                f"step {self.step}; lower the learning rate ({self.schedule.learning_rate:g}) or the clipping norm, "
                "or use fp32, and go on from the last checkpoint."
            )

    def _restore_optimizer(self, tensors: dict[str, Tensor] | Any) -> None:
        state = {}
        for index, name in enumerate(self._parameters):
            values = _under(f"optimizer.{name}.", tensors)
            values = {key: value for key, value in values.items() if "." not in key}
            if values:
                state[index] = values
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def _groups(task: Task) -> list[ParameterGroup]:
    """The task's parameters as groups that each have a scale of the learning rate."""
    given = list(task.parameters())
    if not given:
        raise InvalidInputError(f"The task {task.name!r} has no parameters to train.")
    if isinstance(given[0], nn.Parameter):
        return [{"params": cast(list[nn.Parameter], given), "lr_scale": 1.0}]
    return [{"lr_scale": 1.0, **group} for group in cast(list[ParameterGroup], given)]


def _named(module: nn.Module, groups: list[ParameterGroup]) -> dict[str, nn.Parameter]:
    """The groups' parameters, in their order, by the names that the module gives them."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    named: dict[str, nn.Parameter] = {}
    for parameter in (p for group in groups for p in group["params"]):
        if parameter not in names:
            raise InvalidInputError(
                f"A trained parameter of shape {tuple(parameter.shape)} is not in the task's module; no checkpoint "
                "would hold it."
            )
        named[names[parameter]] = parameter
    return named


def _share(done: float, whole: float) -> float:
    return done / whole if whole else 1.0


def _under(prefix: str, tensors: Any) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
