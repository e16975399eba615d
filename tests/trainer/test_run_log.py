"""The record of a long command: hours add up, nothing done is done again, another plan is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headlift.errors import ConflictError, FormatError
from headlift_trainer.run_log import RunLog


def test_an_interrupted_step_is_not_done_and_its_hours_add_up(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"

    def interrupted() -> None:
        with RunLog(path, {"heads": 4}).attempt("heads") as step:
            step.figures["files"] = 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    again = RunLog(path, {"heads": 4})
    first = again["heads"].hours
    assert not again.is_done("heads")
    assert first > 0
    with again.attempt("heads") as step:
        assert step.figures == {"files": 3}
        step.figures["files"] += 1
    (kept,) = json.loads(path.read_text())["steps"]
    assert kept["hours"] > first
    assert {k: kept[k] for k in ("attempts", "done", "figures")} == {
        "attempts": 2,
        "done": True,
        "figures": {"files": 4},
    }
    assert RunLog(path, {"heads": 4}).is_done("heads")


def test_a_step_may_say_itself_that_it_is_not_done(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "steps.json", {})
    with log.attempt("stage") as step:
        step.done = False
    assert not RunLog(tmp_path / "steps.json", {}).is_done("stage")


def test_a_killed_process_leaves_the_time_of_its_last_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log = RunLog(tmp_path / "steps.json", {})
    with log.attempt("long") as step:
        now[0] = 1800.0
        log.heartbeat(step)
        (kept,) = json.loads((tmp_path / "steps.json").read_text())["steps"]
        assert (kept["hours"], kept["done"]) == (0.5, False)
        now[0] = 3600.0
    assert log["long"].hours == 1.0


def test_another_plan_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    with RunLog(path, {"heads": 4, "seed": 0}).attempt("heads"):
        pass
    with pytest.raises(ConflictError, match=r"heads 4 \(now 5\)"):
        RunLog(path, {"heads": 5, "seed": 0})
    path.write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        RunLog(path, {})
