"""200 portraits in a real Ray, with poison among them; drivers and workers are killed on the way."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest
from PIL import Image

from headlift.batch.results import rows_from_table
from headlift.errors import HeadliftError, InvalidInputError, WeightsError

pytest.importorskip("ray.serve")
pytest.importorskip("ray.data")

import batch_driver
import ray

from headlift.batch.output_spec import OutputSpec
from headlift.batch.ray_data import Pool, pooled
from headlift.batch.run import Job, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

COUNT, WORKERS = 200, 2
POISON = {7: "broken", 50: "broken", 133: "broken", 12: "faceless", 77: "faceless", 20: "giant", 150: "giant"}
POISON |= {30: "huge", 101: "huge", 90: "deadly"}
REASONS = {
    "broken": "REFUSED UNREADABLE_PICTURE",
    "faceless": "REFUSED NO_FACE",
    "giant": "REFUSED PICTURE_TOO_LARGE",
    "huge": "REFUSED PICTURE_TOO_LARGE",
    "deadly": "FAILED WORKER_CRASHED",
}
PATIENCE_S = 300.0


def portrait(picture: Image.Image, i: int) -> bytes:
    """The astronaut, a little brighter each time."""
    buffer = io.BytesIO()
    picture.point(lambda v: min(255, int(v * (0.9 + i / 1000)))).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def portraits(tmp_path_factory, portrait_png) -> Path:
    """200 files, ten of them poison."""
    folder = tmp_path_factory.mktemp("portraits")
    small = Image.open(io.BytesIO(portrait_png)).convert("RGB").crop((80, 0, 208, 128))
    grey = io.BytesIO()
    Image.new("RGB", (128, 128), (90, 120, 90)).save(grey, "PNG")
    header = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(header, "PNG")
    for i in range(COUNT):
        good = portrait(small, i) + b"%03d" % i  # equal pictures could not be told apart
        data = {
            "broken": good[: len(good) // 2] if i % 2 else b"not a picture %03d" % i,
            "faceless": grey.getvalue() + bytes([i]),
            "giant": good + bytes(batch_driver.BYTES_MAX),
            "huge": header.getvalue() + b"%03d" % i,
            "deadly": good + batch_driver.POISON,
        }.get(POISON.get(i, ""), good)
        (folder / f"p{i:03d}.jpg").write_bytes(data)
    return folder


class Looks:
    """What workers looked at so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[tuple[str, int]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [(sha, int(pid)) for sha, pid in (line.split() for line in text.splitlines())]

    def wait_for(self, count: int, driver: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE_S
        while len(self.lines()) < count:
            assert driver.poll() is None, "the driver ended early"
            assert time.monotonic() < until, f"{len(self.lines())} looks, waited for {count}"
            time.sleep(0.05)


def test_whatever_dies_nothing_is_done_twice_and_nothing_is_missing(
    ray_cluster, portraits, tiny_checkpoint, replica_settings, tmp_path
):
    looks, out = Looks(tmp_path / "looks"), tmp_path / "out"
    address = ray.get_runtime_context().gcs_address
    words = [portraits, out, tiny_checkpoint, replica_settings["rasterizer"], address, looks.path]

    def driver() -> subprocess.Popen[bytes]:
        path = os.pathsep.join(p for p in sys.path if p)
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", batch_driver.__file__, *map(str, words)],
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
            stderr=(tmp_path / "errors").open("a"),
        )

    with driver() as first:
        looks.wait_for(30, first)
        os.kill(looks.lines()[-1][1], signal.SIGKILL)  # a worker
        looks.wait_for(60, first)
        first.kill()
    with driver() as second:
        assert second.wait(PATIENCE_S) == 0

    rows = rows_from_table(pyarrow.parquet.read_table(out / "results.parquet"))
    assert [row.id for row in rows] == sorted(p.name for p in portraits.iterdir())
    for i, row in enumerate(rows):
        assert f"{row.status} {row.reason}" == REASONS.get(POISON.get(i, ""), "DONE OK"), row
        for output in row.outputs:
            assert hashlib.sha256((out / output.name).read_bytes()).hexdigest() == output.sha256
        assert len(row.outputs) == (2 if row.status == "DONE" else 0)
    shas = {row.index: row.input_sha256 for row in rows if row.status == "DONE"}
    assert shas == {i: hashlib.sha256((portraits / rows[i].id).read_bytes()).hexdigest() for i in shas}

    # Done again is only what a worker had in its hands when it died: two at the end of the driver, one at its own.
    times = Counter(sha for sha, _ in looks.lines())
    deadly = hashlib.sha256((portraits / rows[90].id).read_bytes()).hexdigest()
    assert times.pop(deadly) == rows[90].attempts == 3
    again = {sha: count - 1 for sha, count in times.items() if count > 1}
    assert sum(again.values()) <= WORKERS + 1
    giants = [i for i, kind in POISON.items() if kind == "giant"]
    assert not any(hashlib.sha256((portraits / rows[i].id).read_bytes()).hexdigest() in times for i in giants)
    made = {row.id for row in rows if row.status == "DONE"}
    assert len(list((out / "heads").iterdir())) == len(made) == COUNT - len(POISON)
    assert not list((out / "work").glob("*.json"))
    page = (out / "summary.html").read_text()
    assert all(reason in page for reason in ("DONE OK", *REASONS.values()))


def test_a_worker_that_cannot_load_the_network_ends_the_batch_in_our_words(
    ray_cluster, portraits, tiny_checkpoint, tmp_path
):
    from headlift.settings import Settings

    def load(settings):
        raise WeightsError("The network is of no use.")

    job = Job(str(portraits), str(tmp_path), OutputSpec(), Settings(weights=tiny_checkpoint), load=load)
    with pytest.raises(HeadliftError, match="of no use"):
        run(job, pooled(Pool(cpus=0.01)), workers=1)


def test_a_pool_out_of_range_is_refused():
    with pytest.raises(InvalidInputError, match="actors is 0"):
        Pool(actors=0)
