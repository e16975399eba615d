"""A batch in this process, for laptops: one worker, no Ray.

A picture that ends the process ends the batch; started again it goes on, and gives that picture up in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headlift.batch.manifest import Item
from headlift.batch.results import Row
from headlift.batch.run import Job


def here(job: Job, blocks: Sequence[Sequence[Item]]) -> Iterator[list[Row]]:
    """See ``run.Workforce``."""
    maker = job.maker()
    for block in blocks:
        yield maker.block(list(block))
