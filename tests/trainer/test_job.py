"""The loop under Ray Train, on a real cluster of two nodes: a killed worker, a lost machine."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from headlift.errors import InvalidInputError
from headlift.settings import no_telemetry
from headlift_trainer.loop import run
from headlift_trainer.schedule import Schedule

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402 -- after the check that Ray is there

from headlift_trainer.job import Workers, run_job, worker_environment  # noqa: E402

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test

# Ray's own code warns of what it will change.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.slow]

SCHEDULE = Schedule(
    steps=100,
    learning_rate=1e-2,
    warmup_steps=2,
    accumulate=2,
    checkpoint_steps=4,
    checkpoint_minutes=None,
    log_every=1,
)


class Line:
    """A linear map is learned; every worker notes its rank, and one kills itself."""

    name = "line"

    def __init__(self, seed: int, notes: Path | None = None, kill_at: int | None = None, pause_s: float = 0.0) -> None:
        torch.manual_seed(seed)
        self.net = nn.Linear(4, 2)
        self.notes, self.kill_at, self.pause_s, self.calls = notes, kill_at, pause_s, 0

    @property
    def module(self) -> nn.Module:
        return self.net

    def parameters(self):
        return list(self.net.parameters())

    def draw(self, generator: torch.Generator):
        return torch.randn(8, 4, generator=generator)

    def loss(self, batch: torch.Tensor, generator: torch.Generator):
        self.calls += 1
        if self.notes is not None:
            self.note(self.notes)
        time.sleep(self.pause_s)
        return (self.net(batch) - batch[:, :2]).square().mean(), {}

    def note(self, notes: Path) -> None:
        context = ray.train.get_context()
        rank, world_size = context.get_world_rank(), context.get_world_size()
        notes.mkdir(exist_ok=True)
        if self.calls == 1:  # whole or not at all: a worker may be killed at any moment
            whole = notes / f"{os.getpid()}.part"
            whole.write_text(f"{rank}/{world_size}")
            whole.rename(whole.with_suffix(".txt"))
        if rank == 1 and self.calls == self.kill_at and not (notes / "killed").exists():
            (notes / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def figures(self):
        return {}

    def pictures(self):
        return {}


@pytest.fixture
def cluster(monkeypatch):
    # Ray looks after its workers more often, and gives up sooner on those that it waits for in vain.
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")
    no_telemetry()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=worker_environment())
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def logged(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_run_survives_a_killed_worker_and_a_lost_machine_and_equals_a_run_in_one_process(cluster, tmp_path):
    notes, out = tmp_path / "notes", tmp_path / "out"

    def lose_a_machine() -> None:
        """Once the killed worker's group has been replaced and has come further."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (
            (notes / "killed").exists() and list(out.glob("step-00000002*.safetensors"))
        ):
            time.sleep(0.1)
        cluster.remove_node(*cluster.worker_nodes, allow_graceful=False)

    thread = threading.Thread(target=lose_a_machine)
    thread.start()
    result = run_job(
        # Workers start with parameters of their own and must be made equal.
        lambda device: Line(3 + ray.train.get_context().get_world_rank(), notes, kill_at=11, pause_s=0.05),
        SCHEDULE,
        out,
        Workers(least=1, most=2, restarts=3),
    )
    thread.join()
    assert (result.steps, result.finished) == (SCHEDULE.steps, True)
    assert result.resumed_from is not None
    assert result.resumed_from >= 20
    assert (notes / "killed").exists()
    shares = sorted(path.read_text() for path in notes.glob("*.txt"))
    assert shares == ["0/1", "0/2", "0/2", "1/2", "1/2"]
    alone = run(Line(3), SCHEDULE, tmp_path / "alone", quiet=True)
    assert alone.loss == pytest.approx(result.loss, rel=1e-4)
    assert logged(out) == pytest.approx(logged(tmp_path / "alone"), rel=1e-4)
    assert list(logged(out)) == list(range(1, SCHEDULE.steps + 1))


def test_workers_out_of_range_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"2\.\.1"):
        Workers(least=2, most=1)
    with pytest.raises(InvalidInputError, match="up to 4 workers"):
        run_job(lambda device: Line(3), SCHEDULE, tmp_path, Workers(most=4))
