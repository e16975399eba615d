"""A batch on Ray Data: blocks of the manifest flow through a pool of actors that hold the stages.

The only file that imports ``ray.data``. An actor that dies is started again and its block with it; what it had
finished of the block is found in the batch's place.
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

from headlift.batch.items import ItemMaker
from headlift.batch.manifest import Item, items_of, items_table
from headlift.batch.results import Row, rows_of, rows_table
from headlift.batch.run import Job, Workforce
from headlift.errors import HeadliftError, InvalidInputError, StageUnavailableError
from headlift.status import error_of, status_of

_FAULT = "FAULT"


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


class Worker:
    """One actor of the pool."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._maker: ItemMaker | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """Do a block of items."""
        try:
            if self._maker is None:  # not above: what fails there reaches nobody in words
                self._maker = self._job.maker()
            return rows_table(self._maker.block(items_of(block)))
        except HeadliftError as error:
            return rows_table([_fault(error)])


def pooled(pool: Pool) -> Workforce:
    """A workforce on the Ray cluster that this process is connected to."""

    def work(job: Job, blocks: Sequence[Sequence[Item]]) -> Iterator[list[Row]]:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = DataContext.get_current()
        # Progress is ours to show; a place that fails ends the batch, whose next run goes on.
        context.enable_progress_bars = False
        context.enable_auto_log_stats = False
        context.actor_task_retry_on_errors = False
        if not job.settings.threads:
            # Several workers share a machine: none may take all of its cores.
            job = replace(job, settings=replace(job.settings, threads=max(1, round(pool.cpus))))
        dataset = ray.data.from_arrow([items_table(block) for block in blocks]).map_batches(
            Worker,
            fn_constructor_kwargs={"job": job},
            batch_size=job.block_items,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(pool.actors, len(blocks)), max_tasks_in_flight_per_actor=2),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
        )
        try:
            for batch in _batches(dataset):
                rows = rows_of(batch)
                for row in rows:
                    _raise_fault(row)
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


def _fault(error: HeadliftError) -> Row:
    """What ends the batch, as a row: of an exception Ray brings no more than the text of its traceback."""
    told = status_of(error).SerializeToString().hex()
    return Row(-1, "", "", -1, 0.0, _FAULT, error.reason, told)


def _raise_fault(row: Row) -> None:
    if row.status == _FAULT:
        raise error_of(status_pb2.Status.FromString(bytes.fromhex(row.message)))
