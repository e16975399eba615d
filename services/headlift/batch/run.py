"""A whole batch: the unfinished items of a manifest, done by workers in blocks; then one table and a summary.

``run_local`` does them in this process, ``ray_data.pooled`` on a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from headlift.backend.local import local_backend, network_hash
from headlift.backend.protocol import Backend
from headlift.batch.items import ItemWorker
from headlift.batch.lock import exclusive_lock
from headlift.batch.manifest import Item, read_manifest
from headlift.batch.output_spec import OutputSpec, bind_output
from headlift.batch.places import Place, open_place
from headlift.batch.results import FAILED, ResultLog, Row
from headlift.batch.summary import Run, RunLog, write_summary
from headlift.errors import InvalidInputError
from headlift.media.clip import Stride
from headlift.settings import Settings

BLOCK_ITEMS = 8
_BLOCK_MAX = 4096
_RECORD_S = 5.0
Load = Callable[[Settings], Backend]
Progress = Callable[[int, int, Row], None]  # items that have a row, items in all, the newest row


def load_backend(settings: Settings) -> Backend:
    """The network that ``settings`` name, in the worker's process. Raises as ``local_backend``."""
    return local_backend(settings)


@dataclass(frozen=True)
class Job:
    """A batch.

    Attributes:
        manifest: See ``read_manifest``.
        out: Folder or ``s3://bucket/prefix`` of everything that is made.
        output_spec: What that is.
        settings: Network, device, limits, and where S3 is.
        stride: Which frames of a clip count.
        block_items: Items whose rows become one file; larger blocks make fewer files.
        retry_failed: Do items again that FAILED.
        hourly_cost: What a worker costs an hour, in any currency; 0: nothing is said about cost.
        load: Loads the stages in a worker.
    """

    manifest: str
    out: str
    output_spec: OutputSpec
    settings: Settings
    stride: Stride = field(default_factory=Stride)
    block_items: int = BLOCK_ITEMS
    retry_failed: bool = False
    hourly_cost: float = 0.0
    load: Load = load_backend

    def __post_init__(self) -> None:
        if not 1 <= self.block_items <= _BLOCK_MAX:
            raise InvalidInputError(
                f"block_items is {self.block_items}; it must lie in 1..{_BLOCK_MAX}.", field="block_items"
            )

    def item_worker(self) -> ItemWorker:
        """Loads the stages; one per worker."""
        out = open_place(self.out, self.settings)
        return ItemWorker(self.load(self.settings), out, self.output_spec, self.settings)


# Does blocks of items, in any order, and yields the rows of those that are finished and stored.
Workforce = Callable[[Job, Sequence[Sequence[Item]]], Iterator[list[Row]]]


@dataclass(frozen=True)
class Outcome:
    """How a batch ended: all rows in the order of the manifest, and what this run did of them."""

    rows: list[Row]
    done_now: int
    wall_s: float


def run(job: Job, workforce: Workforce, *, workers: int, progress: Progress = lambda *_: None) -> Outcome:
    """Do the unfinished items of a batch.

    Whatever ends it early (an interruption, a dead machine, a place that fails), the same call goes on: items that
    have a row are left alone.

    Raises:
        InvalidInputError: The manifest cannot be used.
        ConflictError: The place is bound to another batch, or another run works on it.
        StoreError: A place cannot be read or written.
        WeightsError: The network is not there.
    """
    digest = network_hash(job.settings)
    items = read_manifest(job.manifest, job.settings, job.stride)
    out = open_place(job.out, job.settings, make=True)
    with exclusive_lock(out):
        bind_output(out, job.manifest, job.output_spec, digest)
        return _do_unfinished(job, items, out, workforce, workers, progress)


def run_local(job: Job, blocks: Sequence[Sequence[Item]]) -> Iterator[list[Row]]:
    """A workforce of one in this process, without Ray.

    A picture that ends the process ends the batch; started again it goes on, and gives that picture up in the end.
    """
    worker = job.item_worker()
    for block in blocks:
        yield worker.do_block(list(block))


def _do_unfinished(
    job: Job, items: Sequence[Item], out: Place, workforce: Workforce, workers: int, progress: Progress
) -> Outcome:
    log, runs = ResultLog(out), RunLog(out)
    finished = log.rows()
    if job.retry_failed and (again := {row.id for row in finished.values() if row.status == FAILED}):
        log.remove_rows(again)
        finished = {name: row for name, row in finished.items() if name not in again}
    left = [item for item in items if item.id not in finished]
    blocks = [left[i : i + job.block_items] for i in range(0, len(left), job.block_items)]
    begin, done, recorded = time.time(), 0, 0.0
    if blocks:
        try:
            for rows in workforce(job, blocks):
                for row in rows:
                    done += 1
                    progress(len(items) - len(left) + done, len(items), row)
                if time.monotonic() - recorded > _RECORD_S:
                    runs.record(Run(begin, time.time(), workers, done))
                    recorded = time.monotonic()
        finally:
            if done:
                runs.record(Run(begin, time.time(), workers, done))
    all_rows = log.merge_blocks(items)
    write_summary(out, all_rows, len(items), runs.runs(), job.hourly_cost)
    return Outcome(all_rows, done, time.time() - begin)
