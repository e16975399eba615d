"""The same loop under Ray Train: any number of workers, which may die. The only importer of `ray.train`.

Workers share the micro-batches of each step and sum their gradients, so a run draws the same samples with one worker
or many. Checkpoints are the loop's own: when a worker or a machine is lost, Ray starts the group again, with as many
workers as there is room for between the least and the most, and each goes on from the newest checkpoint.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from headlift.errors import InvalidInputError
from headlift.settings import Settings, no_telemetry
from headlift_trainer.checkpoints import Checkpoints
from headlift_trainer.collective import WorkerRank
from headlift_trainer.loop import RunResult, run
from headlift_trainer.schedule import Schedule
from headlift_trainer.stores import open_store
from headlift_trainer.tasks.interface import Task

_train: Any = ray.train  # its annotations still describe an older interface than what it exports
MakeTask = Callable[[torch.device], Task]


@dataclass(frozen=True)
class Workers:
    """How many workers, and what each needs.

    Raises:
        InvalidInputError: A number is out of range.
    """

    least: int = 1
    most: int = 1  # over `least`: elastic
    cpus: float = 1.0  # of each
    gpus: float = 0.0  # of each
    restarts: int = 10  # failures that are recovered from; -1 for any number
    resize_s: float = 60.0  # how often more workers are looked for while all is well

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise InvalidInputError(f"Workers {self.least}..{self.most}: give 1 or more, the least first.")
        if self.cpus <= 0 or self.gpus < 0 or self.restarts < -1 or self.resize_s <= 0:
            raise InvalidInputError(
                f"Workers of {self.cpus:g} CPUs and {self.gpus:g} GPUs with {self.restarts} restarts, resized every "
                f"{self.resize_s:g} s: CPUs and seconds must be over 0, GPUs 0 or more, restarts -1 or more."
            )


def run_job(
    make_task: MakeTask,
    schedule: Schedule,
    out: Path | str,
    workers: Workers,
    *,
    resume: bool = True,
    settings: Settings | None = None,
    address: str | None = None,
) -> RunResult:
    """Train under Ray; the result is the first worker's, in the last attempt.

    Args:
        make_task: Builds the task in a worker, on the device given; must be importable or picklable there.
        schedule: How long and how hard; at least `workers.most` micro-batches a step.
        out: As in `loop.run`: a folder that all workers reach, or ``s3://bucket/prefix``.
        workers: How many.
        resume: False removes the checkpoints that are there before the first attempt.
        settings: For S3.
        address: A Ray cluster; None uses the one this process is in, or starts one on this machine.

    Raises:
        InvalidInputError: Fewer micro-batches a step than workers.
        ray.train.TrainingFailedError: More failures than `workers.restarts`.
    """
    if schedule.accumulate < workers.most:
        raise InvalidInputError(
            f"{schedule.accumulate} micro-batches a step cannot be shared by up to {workers.most} workers; set "
            f"Schedule.accumulate to {workers.most} or more, best a multiple."
        )
    if not ray.is_initialized():
        no_telemetry()
        ray.init(address=address, include_dashboard=False, log_to_driver=False, runtime_env=worker_environment())
    settings = settings or Settings.from_env()
    place = out if isinstance(out, str) else str(out.absolute())
    if not resume:
        Checkpoints(open_store(place, settings)).clear()
    config = {"make_task": make_task, "schedule": schedule, "out": place, "settings": settings}
    with tempfile.TemporaryDirectory(prefix="headlift-ray-") as scratch:
        trainer = _train.torch.TorchTrainer(
            _work,
            train_loop_config=config,
            torch_config=_train.torch.TorchConfig(backend="nccl" if workers.gpus else "gloo"),
            scaling_config=_scaling(workers),
            run_config=_train.RunConfig(
                storage_path=scratch, failure_config=_train.FailureConfig(max_failures=workers.restarts)
            ),
        )
        result = trainer.fit().return_value
    assert isinstance(result, RunResult), "the first worker returns what the run came to"
    return result


def worker_environment() -> dict[str, str]:
    """Ray's runtime environment of workers: it gives the interpreter's path to a shell as it is (2.60)."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def _scaling(workers: Workers) -> Any:
    """Fixed or elastic, in Ray's words."""
    count = workers.most if workers.least == workers.most else (workers.least, workers.most)
    resources = {"CPU": workers.cpus} | ({"GPU": workers.gpus} if workers.gpus else {})
    return _train.ScalingConfig(
        num_workers=count,
        use_gpu=bool(workers.gpus),
        resources_per_worker=resources,
        elastic_resize_monitor_interval_s=workers.resize_s,
    )


def _work(config: dict[str, Any]) -> RunResult:
    """One worker's part, from start or restart to its end."""
    context = _train.get_context()
    worker = WorkerRank(context.get_world_rank(), context.get_world_size())

    def report(step: int, figures: dict[str, float]) -> None:
        # All workers meet here; between two reports Ray may end the group to start it with more workers.
        _train.report({"step": step, "workers": worker.world_size} | figures)

    return run(
        config["make_task"](_train.torch.get_device()),
        config["schedule"],
        config["out"],
        worker=worker,
        settings=config["settings"],
        quiet=True,
        on_checkpoint=report,
    )
