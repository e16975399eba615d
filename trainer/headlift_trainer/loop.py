"""The training loop: any task, any schedule, one worker or many.

A run is exact: what a step draws depends on the seed, the step and the number of the micro-batch alone, and a
checkpoint holds parameters, averages, optimiser, step and elapsed time. So an interrupted run that ends by steps gives
the same losses, bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from headlift.settings import Settings
from headlift_trainer.checkpoints import Checkpoints
from headlift_trainer.collective import Collective, WorkerRank
from headlift_trainer.progress import Journal
from headlift_trainer.schedule import Schedule
from headlift_trainer.stores import FolderStore, Store, open_store
from headlift_trainer.tasks.interface import Releasing, Task
from headlift_trainer.train_state import TrainState

OnCheckpoint = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    steps: int  # of all attempts
    minutes: float  # of all attempts
    skipped: int  # steps whose loss or gradient was not finite
    resumed_from: int | None  # step; None for a fresh start
    finished: bool  # False where `stop` ended it
    loss: float | None  # of the last step; None where no step was left to do
    figures: dict[str, float]
    checkpoint: str  # file name


def run(
    task: Task,
    schedule: Schedule,
    out: Path | str,
    *,
    resume: bool = True,
    worker: WorkerRank | None = None,
    settings: Settings | None = None,
    quiet: bool = False,
    on_checkpoint: OnCheckpoint | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Train a task; leaves the averaged parameters in its module.

    Args:
        task: What is trained.
        schedule: How long and how hard.
        out: A folder or ``s3://bucket/prefix`` for checkpoints, ``log.jsonl``, TensorBoard's event files and what the
            task releases. Several workers on several machines need one that all of them reach.
        resume: Go on from the newest checkpoint there; False starts anew and removes the old checkpoints.
        worker: Which of the workers this is; None is the only one.
        settings: For S3.
        quiet: No progress bar.
        on_checkpoint: Called by every worker after each checkpoint, with the step and the latest figures.
        stop: Asked by the first worker after each step; True writes a checkpoint and ends the run early.

    Raises:
        TrainingDivergedError: Too many steps in a row were not finite.
        IncompatibleWeightsError: The checkpoint there is of another task.
        StoreError: The store cannot be used.
    """
    worker = worker or WorkerRank()
    # Whatever else draws in this process is not disturbed, and does not disturb the run.
    with torch.random.fork_rng(_cuda_devices(task)), ExitStack() as stack:
        collective = Collective(worker)
        store = open_store(out, settings)
        checkpoints = Checkpoints(store, keep=schedule.keep, best=schedule.best)
        collective.equalise(task.module)
        state = TrainState(task, schedule, worker, collective)
        resumed_from = _resume(state, checkpoints, collective, worker, resume)
        folder = stack.enter_context(_folder(store)) if worker.rank == 0 else None
        journal = None
        if folder is not None:
            journal = stack.enter_context(Journal(task.name, store, folder, first_step=state.step, quiet=quiet))
        attempt = _Attempt(task, schedule, state, checkpoints, collective, journal, folder, on_checkpoint, stop)
        finished = attempt.train()
        state.keep_averages()
        return RunResult(
            steps=state.step,
            minutes=state.seconds / 60,
            skipped=state.skipped,
            resumed_from=resumed_from,
            finished=finished,
            loss=attempt.loss,
            figures=state.figures,
            checkpoint=attempt.checkpoint,
        )


def _cuda_devices(task: Task) -> list[torch.device]:
    """The GPU that a task uses, if any."""
    return sorted({p.device for p in task.module.parameters() if p.device.type == "cuda"}, key=str)


def _resume(
    state: TrainState, checkpoints: Checkpoints, collective: Collective, worker: WorkerRank, resume: bool
) -> int | None:
    """Fill the state from the newest checkpoint that the first worker can read; its step."""
    if worker.rank == 0 and not resume:
        checkpoints.clear()
    found = checkpoints.newest() if worker.rank == 0 else None
    (step,) = collective.from_first(-1 if found is None else found[0])
    if step < 0:
        return None
    state.restore(checkpoints.load(int(step)) if found is None else found[1])
    return int(step)


@contextmanager
def _folder(store: Store) -> Iterator[Path]:
    """Where records are written before they are shared."""
    if isinstance(store, FolderStore):
        yield store.folder
    else:
        with tempfile.TemporaryDirectory(prefix="headlift-") as scratch:
            yield Path(scratch)


@dataclass
class _Attempt:
    """One process's part of a run, from start or resumption to its end."""

    task: Task
    schedule: Schedule
    state: TrainState
    checkpoints: Checkpoints
    collective: Collective
    journal: Journal | None
    folder: Path | None
    on_checkpoint: OnCheckpoint | None
    stop: Callable[[], bool] | None
    loss: float | None = None
    checkpoint: str = ""
    saved_at: float = 0.0
    saved_step: int = -1

    def train(self) -> bool:
        """Train to the end; whether it was reached."""
        state, schedule = self.state, self.schedule
        self.saved_at = state.seconds
        began = time.monotonic() - state.seconds
        stopped, save = False, False
        while not stopped and state.done() < 1:
            values = state.advance()
            self.loss = values["loss"]
            elapsed, stopped_, save_ = self.collective.from_first(
                time.monotonic() - began, float(self.stop is not None and self.stop()), float(self._due())
            )
            state.seconds, stopped, save = elapsed, bool(stopped_), bool(save_)
            if state.step % schedule.log_every == 0 and self.journal is not None:
                self.journal.step(state.step, state.done(), values)
            if schedule.figures_every and state.step % schedule.figures_every == 0:
                self._take_figures()
            if save:
                self._save()
        finished = state.done() >= 1
        if finished and state.figures_step != state.step:
            self._take_figures()
        if self.saved_step != state.step:
            self._save()
        return finished

    def _due(self) -> bool:
        """Whether a checkpoint is to be written now."""
        by_step, by_minutes = self.schedule.checkpoint_steps, self.schedule.checkpoint_minutes
        if by_step and self.state.step % by_step == 0:
            return True
        return by_minutes is not None and self.state.seconds - self.saved_at >= 60 * by_minutes

    def _take_figures(self) -> None:
        """Held-out figures and pictures of the averaged parameters, by the first worker."""
        state = self.state
        state.figures_step = state.step
        if self.journal is not None:
            with state.evaluating():
                state.figures = dict(self.task.figures())
                pictures = self.task.pictures()
            self.journal.figures(state.step, state.figures, pictures)

    def _save(self) -> None:
        """Write a checkpoint and what the task releases."""
        state = self.state
        if self.journal is not None and self.folder is not None:
            self.checkpoint = self.checkpoints.save(state.snapshot(), state.step, state.figures)
            if isinstance(self.task, Releasing):
                with state.evaluating():
                    self.task.release(self.folder, state.step, state.figures)
            self.journal.share()
        self.saved_at, self.saved_step = state.seconds, state.step
        self.collective.wait()
        if self.on_checkpoint is not None:
            self.on_checkpoint(state.step, dict(state.figures))
