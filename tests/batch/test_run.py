"""A batch in this process: what it makes, what it refuses, and how it goes on."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from headlift import formats
from headlift.batch.manifest import read_manifest
from headlift.batch.output_spec import OutputSpec
from headlift.batch.results import ResultLog, rows_from_table
from headlift.batch.run import load_backend, run, run_local
from headlift.errors import ConflictError, InvalidInputError, StoreError
from headlift.media.clip import Stride, frames
from headlift.media.video import write_video

WORKERS = 1


def counted(job):
    """The job with a list of the images that its workers preprocess."""
    seen = []

    def load(settings):
        backend = load_backend(settings)

        original = backend.preprocess

        def preprocess(image, options, token):
            seen.append(image)
            return original(image, options, token)

        backend.preprocess = preprocess
        return backend

    return replace(job, load=load), seen


def test_every_item_has_a_row_and_every_head_its_files(job, tmp_path):
    spec = OutputSpec(
        exports=("spz_v3", "glb", "wire"),
        views=((0.0, 0.0), (40.0, 10.0)),
        size=64,
        turntable_frames=3,
        view_format="png",
    )
    outcome = run(replace(job, output_spec=spec, hourly_cost=2.0), run_local, workers=WORKERS)
    out = tmp_path / "out"
    rows = rows_from_table(pyarrow.parquet.read_table(out / "results.parquet"))
    assert rows == outcome.rows
    assert Counter(row.reason for row in rows) == {"OK": 4, "NO_FACE": 1, "UNREADABLE_PICTURE": 1}
    for row in (row for row in rows if row.reason == "OK"):
        assert Counter(o.kind for o in row.outputs) == {"spz_v3": 1, "glb": 1, "wire": 1, "view": 2, "turntable": 1}
        heads = {o.kind: (out / o.name).read_bytes() for o in row.outputs}
        assert len(formats.read(heads["wire"])) == row.gaussian_count == len(formats.read(heads["glb"]))
        assert {"read", "preprocess", "encode", "decode", "render", "write"} <= row.stages_ms.keys()
        assert row.seconds * 1e3 >= row.stages_ms["preprocess"] > 0
        assert 0 < row.quality_score <= 1
    names = [o.name for row in rows for o in row.outputs]
    assert len(set(names)) == len(names)
    metrics = json.loads((out / "summary.json").read_text())
    assert metrics["reasons"]["DONE OK"] == 4
    assert metrics["cost_per_item"] == pytest.approx(metrics["cost"] / 6) != 0
    assert "data:image/jpeg;base64," in (out / "summary.html").read_text()
    assert not list((out / "results").iterdir())
    assert not list((out / "work").iterdir())


def test_a_finished_batch_does_nothing_and_a_longer_manifest_only_what_is_new(job, folder):
    run(job, run_local, workers=WORKERS)
    again, seen = counted(job)
    assert run(again, run_local, workers=WORKERS).done_now == 0
    assert not seen
    (folder / "new.jpg").write_bytes((folder / "a.jpg").read_bytes())
    outcome = run(again, run_local, workers=WORKERS)
    assert (outcome.done_now, len(seen), len(outcome.rows)) == (1, 1, 7)


def test_another_batch_may_not_have_the_same_place(job):
    run(job, run_local, workers=WORKERS)
    with pytest.raises(ConflictError, match=r"size"):
        run(replace(job, output_spec=OutputSpec(size=128)), run_local, workers=WORKERS)


def test_an_item_that_workers_die_over_is_given_up_and_the_others_are_done_once(job):
    def dying(settings):
        backend = load_backend(settings)

        original = backend.preprocess

        def preprocess(image, options, token):
            if image == b"no picture":
                raise KeyboardInterrupt  # as far as the batch is concerned, the process ends
            seen.append(image)
            return original(image, options, token)

        backend.preprocess = preprocess
        return backend

    seen = []
    mortal = replace(job, load=dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(mortal, run_local, workers=WORKERS)
    outcome = run(mortal, run_local, workers=WORKERS)
    (crashed,) = [row for row in outcome.rows if row.status == "FAILED"]
    assert (crashed.id, crashed.reason, crashed.attempts) == ("text.jpg", "WORKER_CRASHED", 3)
    assert len(seen) == len(set(seen)) == 5

    mended = run(replace(job, retry_failed=True), run_local, workers=WORKERS)
    assert mended.done_now == 1
    assert next(row for row in mended.rows if row.id == "text.jpg").reason == "UNREADABLE_PICTURE"


def test_rows_that_were_kept_twice_count_once(job, tmp_path):
    """A driver that is killed between two steps of tidying leaves a row in two files."""
    run(job, run_local, workers=WORKERS)
    out = tmp_path / "out"
    (out / "results/000000000-old.parquet").write_bytes((out / "results.parquet").read_bytes())
    outcome = run(job, run_local, workers=WORKERS)
    assert (outcome.done_now, len(outcome.rows)) == (0, 6)
    assert not list((out / "results").iterdir())


def test_a_place_that_fails_ends_the_batch_and_loses_nothing(job, tmp_path, monkeypatch):
    monkeypatch.setattr("headlift.batch.items._STORE_WAIT_S", 0.0)
    write_block = ResultLog.write_block
    blocks = []

    def full(self, items, rows):
        blocks.append(items)
        if len(blocks) == 2:
            (tmp_path / "out/results").rename(tmp_path / "away")
            (tmp_path / "out/results").write_bytes(b"no folder")
        write_block(self, items, rows)

    monkeypatch.setattr(ResultLog, "write_block", full)
    counting, seen = counted(job)
    with pytest.raises(StoreError, match="cannot be written"):
        run(counting, run_local, workers=WORKERS)
    (tmp_path / "out/results").unlink()
    (tmp_path / "away").rename(tmp_path / "out/results")
    assert len(run(counting, run_local, workers=WORKERS).rows) == 6
    assert len(seen) == len(set(seen)) == 6


def test_an_interrupted_command_goes_on(job, folder, tmp_path, tiny_checkpoint, small_portrait):
    for i in range(90):  # enough that the signal comes in time on a busy machine
        small_portrait.crop((0, 0, 128 - i // 30, 128 - i % 30)).save(folder / f"c{i:02d}.jpg")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "headlift.cli",
        "batch",
        str(folder),
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--out", str(tmp_path / "out"), "--weights", str(tiny_checkpoint)]
    command += ["--no-ray", "--size", "64", "--block", "3", "--refine-steps", "0"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HEADLIFT_DEVICE": "cpu"}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as first:
        parts = Path(tmp_path / "out/results")
        while first.poll() is None and len(list(parts.glob("*.parquet"))) < 2:
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        assert first.wait(60) == 130
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/heads").iterdir()}
    done = subprocess.run([*command, "--json"], env=environ, capture_output=True, check=True, timeout=120)
    told = json.loads(done.stdout)
    assert told["items"] == 96
    assert 0 < told["done_now"] <= 90
    assert all(p.stat().st_mtime_ns == written for p, written in before.items())


def test_an_output_spec_out_of_range_is_refused():
    for fields, word in (
        ({"exports": ("obj",)}, "obj"),
        ({"size": 63, "turntable_frames": 3}, "even"),
        ({"refine_steps": 1001}, "refine_steps"),
        ({"attempts": 0}, "attempts"),
    ):
        with pytest.raises(InvalidInputError, match=word):
            OutputSpec(**fields)


def test_a_block_that_is_asked_for_again_is_not_done_again(job, folder, settings):
    counting, seen = counted(job)
    items = read_manifest(str(folder), settings)[:2]
    worker = counting.item_worker()
    rows = worker.do_block(items)
    assert worker.do_block(items) == counting.item_worker().do_block(items) == rows
    assert len(seen) == 2


def test_a_clip_becomes_heads_in_the_order_of_time_whichever_block_comes_first(job, settings, small_portrait, tmp_path):
    clip = tmp_path / "clip.mp4"
    write_video((np.asarray(small_portrait.point(lambda v, i=i: v * (20 + i) // 30)) for i in range(8)), clip, fps=4)
    filmed = replace(job, manifest=str(clip), stride=Stride(step=2))
    items = read_manifest(filmed.manifest, settings, filmed.stride)
    worker = filmed.item_worker()
    worker.do_block(items[2:])
    worker.do_block(items[:2])
    rows = run(filmed, run_local, workers=WORKERS).rows
    assert [(row.index, row.frame) for row in rows] == [(0, 0), (1, 2), (2, 4), (3, 6)]
    assert [row.time_s for row in rows] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert {row.status for row in rows} == {"DONE"}
    assert [row.input_sha256 for row in rows] == [
        hashlib.sha256(frame.png()).hexdigest() for frame in frames(clip.read_bytes(), filmed.stride)
    ]
