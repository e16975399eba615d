"""The page tells the truth, and nothing that came from outside runs in it."""

import pytest

from headlift.batch.places import open_place
from headlift.batch.results import Row
from headlift.batch.summary import Run, RunLog, metrics_of, page
from headlift.settings import Settings


def row(i: int, status: str = "DONE", reason: str = "OK", **fields) -> Row:
    return Row(i, f"id{i}", "a.jpg", -1, 0.0, status, reason, **fields)


def test_metrics_count_reasons_time_and_cost():
    rows = [row(0, seconds=1.0, stages_ms={"decode": 10.0}), row(1, seconds=3.0, stages_ms={"decode": 30.0})]
    rows += [row(2, "REFUSED", "NO_FACE", seconds=0.5, stages_ms={"decode": 999.0})]
    runs = [Run(100.0, 102.0, 2, 2), Run(200.0, 204.0, 1, 1)]
    metrics = metrics_of(rows, 4, runs, hourly_cost=3.6)
    assert metrics.reasons == {"DONE OK": 2, "REFUSED NO_FACE": 1}
    assert (metrics.items, metrics.rows, metrics.wall_s) == (4, 3, 6.0)
    assert metrics.items_per_s == pytest.approx(0.5)
    assert metrics.stage_ms == {"decode": 20.0}
    assert metrics.worker_s["sum"] == pytest.approx(4.5)
    assert metrics.cost == pytest.approx((2 * 2 + 4) * 0.001)
    assert metrics.cost_per_item == pytest.approx(metrics.cost / 3)


def test_an_empty_batch_has_metrics_too():
    assert metrics_of([], 3, [], 1.0).items_per_s == 0.0


def test_names_and_messages_are_escaped():
    hostile = row(0, "REFUSED", "NO_FACE", message="<script>alert(1)</script>")
    text = page(metrics_of([hostile], 1, [], 0.0), [hostile], None)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_runs_are_stored_and_the_last_record_of_each_counts(tmp_path):
    log = RunLog(open_place(str(tmp_path), Settings()))
    log.record(Run(2.0, 3.0, 1, 1))
    log.record(Run(1.0, 2.0, 1, 1))
    log.record(Run(2.0, 5.0, 1, 7))
    assert log.runs() == [Run(1.0, 2.0, 1, 1), Run(2.0, 5.0, 1, 7)]
