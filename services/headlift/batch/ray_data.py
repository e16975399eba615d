"""A batch on Ray Data: blocks of the manifest flow through a pool of actors that hold the stages.

The only file that imports ``ray.data``. An actor that dies is started again and its block with it; what it had
finished of the block is read back from the batch's place.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from google.rpc import status_pb2
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from headlift.batch.items import ItemWorker
from headlift.batch.manifest import Item, items_from_table, items_table
from headlift.batch.results import Row, rows_from_table, rows_table
from headlift.batch.run import Job, Workforce
from headlift.errors import HeadliftError, InvalidInputError, StageUnavailableError
from headlift.status import error_of, status_of

_ERROR = "ERROR"


@dataclass(frozen=True)
class Pool:
    """Actors, and what each of them takes of the cluster.

    Raises:
        InvalidInputError: A number is out of range.
    """

    actors: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, value, low in (("actors", self.actors, 1), ("cpus", self.cpus, 0), ("gpus", self.gpus, 0)):
            if not low <= value <= 100_000:
                raise InvalidInputError(f"{name} is {value:g}; it must lie in {low}..100000.", field=name)


class BlockWorker:
    """One actor of the pool."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: ItemWorker | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """Do a block of items."""
        try:
            if self._worker is None:  # not in __init__: Ray hides the message of what fails there
                self._worker = self._job.item_worker()
            return rows_table(self._worker.do_block(items_from_table(block)))
        except HeadliftError as error:
            return rows_table([_error_row(error)])


def pooled(pool: Pool) -> Workforce:
    """A workforce on the Ray cluster that this process is connected to."""

    def work(job: Job, blocks: Sequence[Sequence[Item]]) -> Iterator[list[Row]]:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        # The command shows progress itself; a place that fails ends the batch, whose next run goes on.
        context.enable_progress_bars = False
        context.enable_auto_log_stats = False
        context.actor_task_retry_on_errors = False
        if not job.settings.threads:
            # Several workers share a machine: none may take all of its cores.
            job = replace(job, settings=replace(job.settings, threads=max(1, round(pool.cpus))))
        dataset = ray.data.from_arrow([items_table(block) for block in blocks]).map_batches(
            BlockWorker,
            fn_constructor_kwargs={"job": job},
            batch_size=job.block_items,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(pool.actors, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
        )
        try:
            for batch in _batches(dataset):
                rows = rows_from_table(batch)
                for row in rows:
                    _raise_error(row)
                yield rows
        except RayError as error:
            raise StageUnavailableError(
                f"Ray could not go on ({type(error).__name__}); what is finished is kept, start the batch again."
            ) from error

    return work


def _batches(dataset: ray.data.Dataset) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about versions to come
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def _error_row(error: HeadliftError) -> Row:
    """What ends the batch, as a row: of an exception Ray carries no more than the text of its traceback."""
    status = status_of(error).SerializeToString().hex()
    return Row(-1, "", "", -1, 0.0, _ERROR, error.reason, status)


def _raise_error(row: Row) -> None:
    if row.status == _ERROR:
        raise error_of(status_pb2.Status.FromString(bytes.fromhex(row.message)))
