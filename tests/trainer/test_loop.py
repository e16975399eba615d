"""The loop: exact resumption, skipped steps, averages, precision, records."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from headlift.errors import IncompatibleWeightsError, InvalidInputError
from headlift_trainer.collective import WorkerRank
from headlift_trainer.loop import run
from headlift_trainer.schedule import Schedule
from headlift_trainer.train_state import TrainingDivergedError

SHORT = Schedule(
    steps=12, learning_rate=1e-2, warmup_steps=3, accumulate=2, checkpoint_steps=4, log_every=1, checkpoint_minutes=None
)


class Curve:
    """A small network learns sin(3x); dropout draws from the global generator."""

    name = "curve"

    def __init__(self, broken_steps: tuple[int, ...] = ()) -> None:
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 1))
        self.calls, self.broken_steps = 0, broken_steps

    @property
    def module(self) -> nn.Module:
        return self.net

    def parameters(self):
        return list(self.net.parameters())

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.rand(8, 1, generator=generator) * 2 - 1

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.net(batch) - torch.sin(3 * batch)).square().mean()
        self.calls += 1
        return loss * torch.nan if self.calls - 1 in self.broken_steps else loss, {"square": loss}

    def figures(self) -> dict[str, float]:
        x = torch.linspace(-1, 1, 50)[:, None]
        return {"error": float((self.net(x) - torch.sin(3 * x)).square().mean())}

    def pictures(self) -> dict[str, Tensor]:
        return {"grey": torch.full((3, 8, 8), 0.5)}


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def same_parameters(one: Curve, other: Curve) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.net.parameters(), other.net.parameters(), strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, precision):
    schedule = replace(SHORT, precision=precision, figures_every=5)
    whole = Curve()
    result = run(whole, schedule, tmp_path / "whole", quiet=True)
    steps = iter(range(100))
    first = run(Curve(), schedule, tmp_path / "parts", quiet=True, stop=lambda: next(steps) == 6)
    assert (first.steps, first.finished) == (7, False)
    second = Curve()
    torch.manual_seed(123)  # the process that goes on is in another state
    resumed = run(second, schedule, tmp_path / "parts", quiet=True)
    assert (resumed.resumed_from, resumed.steps, resumed.finished) == (7, 12, True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 12
    assert same_parameters(whole, second)
    assert resumed.figures == result.figures


def test_a_killed_run_repeats_what_the_last_checkpoint_lacks(tmp_path):
    run(Curve(), SHORT, tmp_path / "whole", quiet=True)

    class Killed(Curve):
        def loss(self, batch, generator):
            if self.calls == 2 * 6:
                raise KeyboardInterrupt
            return super().loss(batch, generator)

    with pytest.raises(KeyboardInterrupt):
        run(Killed(), SHORT, tmp_path / "parts", quiet=True)
    assert len(losses(tmp_path / "parts")) == 6
    assert run(Curve(), SHORT, tmp_path / "parts", quiet=True).resumed_from == 4
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_the_process_own_randomness_is_not_disturbed(tmp_path):
    torch.manual_seed(1)
    task = Curve()
    state = torch.get_rng_state()
    run(task, SHORT, tmp_path, quiet=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path):
    task = Curve(broken_steps=(4, 9))
    result = run(task, SHORT, tmp_path, quiet=True)
    assert result.skipped == 2
    assert result.steps == 12
    assert losses(tmp_path)[2] is None
    assert all(torch.isfinite(p).all() for p in task.net.parameters())


def test_a_run_gives_up_after_too_many_broken_steps(tmp_path):
    with pytest.raises(TrainingDivergedError, match="3 steps in a row"):
        run(Curve(tuple(range(100))), replace(SHORT, broken_steps_max=3), tmp_path, quiet=True)


def test_training_learns_and_the_module_keeps_the_averages(tmp_path):
    task = Curve()
    before = task.figures()["error"]
    result = run(task, replace(SHORT, steps=150, ema_decay=0.9, checkpoint_steps=None), tmp_path, quiet=True)
    task.net.eval()
    assert result.figures["error"] == pytest.approx(task.figures()["error"], abs=1e-6)
    assert result.figures["error"] < 0.6 * before


def test_only_the_newest_and_the_best_checkpoints_stay(tmp_path):
    schedule = replace(SHORT, steps=20, checkpoint_steps=4, figures_every=4, keep=1, best="error")  # more is "better"
    run(Curve(), schedule, tmp_path, quiet=True)
    best = json.loads((tmp_path / "best.json").read_text())["step"]
    kept = sorted(p.name for p in tmp_path.glob("step-*"))
    assert kept == sorted({f"step-{best:09d}.safetensors", "step-000000020.safetensors"})


def test_a_finished_run_that_is_started_again_does_nothing(tmp_path):
    first, second = Curve(), Curve()
    run(first, SHORT, tmp_path, quiet=True)
    result = run(second, SHORT, tmp_path, quiet=True)
    assert (result.steps, result.loss, second.calls) == (12, None, 0)
    assert same_parameters(first, second)


def test_a_longer_schedule_goes_on_and_a_fresh_start_forgets(tmp_path):
    run(Curve(), SHORT, tmp_path, quiet=True)
    assert run(Curve(), replace(SHORT, steps=15), tmp_path, quiet=True).resumed_from == 12
    fresh = run(Curve(), SHORT, tmp_path, quiet=True, resume=False)
    assert (fresh.resumed_from, fresh.steps) == (None, 12)
    assert [p.name for p in tmp_path.glob("step-*")]


def test_a_run_by_time_ends_and_remembers_the_time(tmp_path):
    schedule = Schedule(minutes=0.002, checkpoint_minutes=None, log_every=1)
    result = run(Curve(), schedule, tmp_path, quiet=True)
    assert result.finished
    assert run(Curve(), schedule, tmp_path, quiet=True).minutes == pytest.approx(result.minutes)


def test_the_checkpoint_of_another_task_is_refused(tmp_path):
    run(Curve(), SHORT, tmp_path, quiet=True)
    other = Curve()
    other.name = "other"
    with pytest.raises(IncompatibleWeightsError, match="'curve'"):
        run(other, SHORT, tmp_path, quiet=True)
    wide = Curve()
    wide.net[0] = nn.Linear(1, 17)
    with pytest.raises(IncompatibleWeightsError, match="does not fit"):
        run(wide, SHORT, tmp_path, quiet=True)


@pytest.mark.parametrize(
    "change", [{"steps": None}, {"learning_rate": 0.0}, {"accumulate": 0}, {"precision": "fp16"}, {"ema_decay": 1.0}]
)
def test_a_schedule_out_of_range_is_refused(change):
    with pytest.raises(InvalidInputError):
        replace(SHORT, **change)


def test_a_rank_that_does_not_exist_and_workers_without_a_group_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="Rank 2 of 2"):
        WorkerRank(2, 2)
    with pytest.raises(InvalidInputError, match="process group"):
        run(Curve(), SHORT, tmp_path, quiet=True, worker=WorkerRank(0, 2))


def test_a_parameter_outside_the_module_is_refused(tmp_path):
    task = Curve()
    task.parameters = lambda: [nn.Parameter(torch.zeros(3))]
    with pytest.raises(InvalidInputError, match="not in the task's module"):
        run(task, SHORT, tmp_path, quiet=True)


def test_curves_and_pictures_are_written_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(Curve(), SHORT, tmp_path, quiet=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert len(events.Scalars("train/loss")) == 12
    assert [point.step for point in events.Scalars("held_out/error")] == [12]
    assert events.Images("grey")[0].width == 8
