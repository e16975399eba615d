"""The state of a run and its single step: gradients, clipping, rates, averages, and what a checkpoint holds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict

import torch
from torch import Tensor, nn

from headlift.errors import HeadliftError, IncompatibleWeightsError, InvalidInputError
from headlift_trainer.averages import averaged_model, fill, filled
from headlift_trainer.checkpoints import Snapshot
from headlift_trainer.collective import Collective, WorkerRank
from headlift_trainer.device import to_device
from headlift_trainer.profiler import flush, phase
from headlift_trainer.schedule import Schedule
from headlift_trainer.tasks.interface import Checkpointing, Task


class TrainingDivergedError(HeadliftError):
    """The loss or its gradient was not finite for too many steps in a row."""

    code = "FAILED_PRECONDITION"
    default_reason = "TRAINING_DIVERGED"


class TrainState:
    """A task, its optimiser and its averages between two steps.

    Raises:
        InvalidInputError: The task moves a parameter that its module does not hold, or none at all.
    """

    def __init__(self, task: Task, schedule: Schedule, worker: WorkerRank, collective: Collective) -> None:
        self.task, self.schedule, self.worker = task, schedule, worker
        self._collective = collective
        self._parameters = _named(task)
        self._trained = nn.ParameterList(self._parameters.values())
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(),
            lr=schedule.learning_rate,
            betas=schedule.betas,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self._averages = (
            averaged_model(self._parameters.values(), schedule.ema_decay, schedule.ema_power)
            if schedule.ema_decay
            else None
        )
        self.device = next(iter(self._parameters.values())).device
        self.step = 0  # steps done, the skipped ones included
        self.seconds = 0.0  # wall time, of all attempts
        self.skipped = 0
        self.figures: dict[str, float] = {}
        self.figures_step = -1
        self._broken = 0  # skipped steps in a row
        if schedule.accumulate < worker.world_size:
            raise InvalidInputError(
                f"{schedule.accumulate} micro-batches a step cannot be shared by {worker.world_size} workers; set "
                f"Schedule.accumulate to {worker.world_size} or more, best a multiple."
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
        # Not an lr_scheduler: those count steps, and a run may end by time.
        rate = self.schedule.learning_rate * self.rate()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        parts = self._gradients()
        with phase("optimiser"):
            norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), self.schedule.clip_norm or math.inf))
            if math.isfinite(norm) and math.isfinite(parts["loss"]):
                self._optimizer.step()
                if self._averages is not None:
                    self._averages.update_parameters(self._trained)
                self._broken = 0
            else:
                self._skip(parts["loss"], norm)
        self.step += 1
        return parts | {"gradient_norm": norm, "learning_rate": rate}

    def snapshot(self) -> Snapshot:
        """Everything that `restore` needs."""
        tensors = {f"module.{name}": value for name, value in self.task.module.state_dict().items()}
        if self._averages is not None:
            averages = zip(self._parameters, self._averages.parameters(), strict=True)
            tensors |= {f"average.{name}": value for name, value in averages}
        for name, parameter in self._parameters.items():
            tensors |= {f"optimizer.{name}.{k}": v for k, v in self._optimizer.state[parameter].items()}
        facts = {
            "task": self.task.name,
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "broken": self._broken,
            "updates": 0 if self._averages is None else int(self._averages.n_averaged) - 1,
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
            if self._averages is not None:
                # A run without averages that goes on with them starts them from where it is.
                values = _under("average.", tensors) or self._parameters
                fill(self._averages.parameters(), [values[name] for name in self._parameters])
                self._averages.n_averaged.fill_(1 + int(facts["updates"]))
            self._restore_optimizer(tensors)
        except (RuntimeError, KeyError, ValueError) as error:
            raise IncompatibleWeightsError(
                f"The checkpoint does not fit the task {self.task.name!r}, whose module has changed; start anew."
            ) from error
        self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
        self.skipped, self._broken = int(facts["skipped"]), int(facts["broken"])
        self.figures, self.figures_step = dict(facts["figures"]), int(facts["figures_step"])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The module as it is judged: averaged, in evaluation mode, without gradients."""
        module = self.task.module
        modes = {m: m.training for m in module.modules()}
        with torch.no_grad(), self._averaged():
            module.eval()
            try:
                yield
            finally:
                for m, mode in modes.items():
                    m.training = mode

    def keep_averages(self) -> None:
        """Leave the averaged parameters in the module."""
        if self._averages is not None:
            fill(self._parameters.values(), self._averages.parameters())

    def _averaged(self) -> AbstractContextManager[None]:
        if self._averages is None:
            return nullcontext()
        return filled([*self._parameters.values()], [*self._averages.parameters()])

    def _gradients(self) -> dict[str, float]:
        """Fill the gradients from this step's micro-batches; their mean loss, and the parts of this worker's own."""
        self._optimizer.zero_grad(set_to_none=True)
        count = self.schedule.accumulate
        own = range(self.worker.rank, count, self.worker.world_size)
        total, sums = 0.0, dict[str, float]()
        for index in own:
            generator = self._generator(index)
            with phase("data"):
                batch = to_device(self.task.draw(generator), self.device)
            with self._autocast():
                loss, parts = self.task.loss(batch, generator)
            (loss / count).backward()  # type: ignore[no-untyped-call]
            flush("network")
            total += float(loss.detach()) / count
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(own)
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

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state = {}
        for index, name in enumerate(self._parameters):
            values = _under(f"optimizer.{name}.", tensors)
            values = {key: value for key, value in values.items() if "." not in key}
            if values:
                state[index] = values
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def _named(task: Task) -> dict[str, nn.Parameter]:
    """The task's parameters, in their order, by the names that its module gives them."""
    names = {parameter: name for name, parameter in task.module.named_parameters()}
    parameters = task.parameters()
    if not parameters:
        raise InvalidInputError(f"The task {task.name!r} has no parameters to train.")
    for parameter in parameters:
        if parameter not in names:
            raise InvalidInputError(
                f"A trained parameter of shape {tuple(parameter.shape)} is not in the task's module; no checkpoint "
                "would hold it."
            )
    return {names[parameter]: parameter for parameter in parameters}


def _share(done: float, whole: float) -> float:
    return done / whole if whole else 1.0


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
