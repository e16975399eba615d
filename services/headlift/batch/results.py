"""The result of every item: one row each, stored so that whatever dies, nothing is done twice or missing.

Below the batch's place:

    work/KEY.json            an item being done: how many workers have begun it, and its row once it is finished
    results/PART.parquet     the rows of one block of items, written when all are finished; replaces their work files
    results.parquet          every row, in the order of the manifest, written when no item is left; replaces the parts

A worker that dies leaves the item that it was doing to be done again, and no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from headlift.batch.manifest import Item
from headlift.batch.places import Place
from headlift.errors import NotFoundError

DONE, REFUSED, FAILED = "DONE", "REFUSED", "FAILED"
_BLOCKS, _ALL, _ITEMS = "results", "results.parquet", "work"


@dataclass(frozen=True)
class Output:
    """A file that was made of an item."""

    kind: str  # an export, "view" or "turntable"
    name: str  # below the batch's place
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Row:
    """The result of one item.

    Attributes:
        index: See Item, as are ``id``, ``picture``, ``frame`` and ``time_s``.
        status: DONE; REFUSED: the picture cannot be used; FAILED: it is no fault of the picture's that we know of.
        reason: OK, or a stable UPPER_SNAKE name such as NO_FACE, UNREADABLE_PICTURE, WORKER_CRASHED.
        message: What was wrong, for people.
        quality_score: 0..1; what was found wanting is in ``quality_reasons``.
        input_sha256: Of the picture file, or of the frame as PNG.
        weights_hash: Of the network.
        outputs: The files that were made.
        stages_ms: Wall time of each stage, milliseconds.
        seconds: Wall time of the item, reading and writing included.
        attempts: Workers that began it.
        finished_at: Seconds since 1970.
    """

    index: int
    id: str
    picture: str
    frame: int
    time_s: float
    status: str
    reason: str
    message: str = ""
    quality_score: float = 0.0
    quality_reasons: list[str] = field(default_factory=list)
    input_sha256: str = ""
    weights_hash: str = ""
    gaussian_count: int = 0
    refine_steps: int = 0
    outputs: list[Output] = field(default_factory=list)
    stages_ms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1
    finished_at: float = 0.0


_OUTPUT = pa.struct([("kind", pa.string()), ("name", pa.string()), ("sha256", pa.string()), ("size_bytes", pa.int64())])
SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("id", pa.string()),
        ("picture", pa.string()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("quality_score", pa.float64()),
        ("quality_reasons", pa.list_(pa.string())),
        ("input_sha256", pa.string()),
        ("weights_hash", pa.string()),
        ("gaussian_count", pa.int64()),
        ("refine_steps", pa.int64()),
        ("outputs", pa.list_(_OUTPUT)),
        ("stages_ms", pa.map_(pa.string(), pa.float64())),
        ("seconds", pa.float64()),
        ("attempts", pa.int64()),
        ("finished_at", pa.float64()),
    ]
)


def rows_table(rows: Iterable[Row]) -> pa.Table:
    """Rows as a table."""
    plain = ({**asdict(row), "stages_ms": list(row.stages_ms.items())} for row in rows)
    return pa.Table.from_pylist(list(plain), schema=SCHEMA)


def rows_from_table(table: pa.Table) -> list[Row]:
    """Inverse of ``rows_table``."""
    return [_row({**row, "stages_ms": dict(row["stages_ms"])}) for row in table.to_pylist()]


class ResultLog:
    """The rows of one batch in its place."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def rows(self) -> dict[str, Row]:
        """Every stored row, by id."""
        return {row.id: row for table in self._tables() for row in rows_from_table(table)}

    def read_item(self, item: Item) -> Row | int:
        """The row of an item that is finished while its block is not; else how many workers have begun it."""
        try:
            content = json.loads(self._place.read(_item_file(item)))
        except (NotFoundError, ValueError):
            return 0
        return _row(content["row"]) if content["row"] else int(content["begun"])

    def begin_item(self, item: Item, attempt: int) -> None:
        """Record that a worker begins an item."""
        self._place.write(_item_file(item), json.dumps({"begun": attempt, "row": None}).encode())

    def finish_item(self, item: Item, row: Row) -> None:
        """Store the row of an item, until that of its block is."""
        self._place.write(_item_file(item), json.dumps({"begun": row.attempts, "row": asdict(row)}).encode())

    def write_block(self, items: Sequence[Item], rows: Sequence[Row]) -> None:
        """Store the rows of a block; the same block again replaces them."""
        self._place.write(_block_file(items), _parquet(rows_table(rows)))
        for item in items:
            self._place.delete(_item_file(item))

    def read_block(self, items: Sequence[Item]) -> list[Row] | None:
        """The rows of a block; None where they are not stored."""
        try:
            return rows_from_table(_table(self._place.read(_block_file(items))))
        except NotFoundError:
            return None

    def merge_blocks(self, items: Sequence[Item]) -> list[Row]:
        """All rows, in the order of the manifest; once every item has one, they become one file."""
        stored = self.rows()
        rows = [stored[item.id] for item in items if item.id in stored]
        if len(rows) == len(items):
            self._place.write(_ALL, _parquet(rows_table(rows)))
            for folder in (_BLOCKS, _ITEMS):
                for name in list(self._place.names(folder)):
                    self._place.delete(name)
        return rows

    def remove_rows(self, ids: set[str]) -> None:
        """Remove the rows of these items, so that they are done again."""
        others = [row for row in self.rows().values() if row.id not in ids]
        blocks = list(self._place.names(_BLOCKS))
        # The rest first: killed here, nothing is lost, and the next run takes back what this one did not.
        self._place.write(_ALL, _parquet(rows_table(others)))
        for name in blocks:
            self._place.delete(name)

    def _tables(self) -> Iterator[pa.Table]:
        names = list(self._place.names(_BLOCKS))
        with contextlib.suppress(NotFoundError):
            yield _table(self._place.read(_ALL))
        for name in names:
            yield _table(self._place.read(name))


def _block_file(items: Sequence[Item]) -> str:
    name = hashlib.sha256("\n".join(item.id for item in items).encode()).hexdigest()[:24]
    return f"{_BLOCKS}/{items[0].index:09d}-{name}.parquet"


def _item_file(item: Item) -> str:
    return f"{_ITEMS}/{item.key}.json"


def _row(values: dict[str, Any]) -> Row:
    return Row(**{**values, "outputs": [Output(**output) for output in values["outputs"]]})


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _table(data: bytes) -> pa.Table:
    return pa.parquet.read_table(io.BytesIO(data), schema=SCHEMA)
