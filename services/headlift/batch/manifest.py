"""The items of a batch: portraits in a folder, an S3 prefix, a list (CSV, JSONL, Parquet) or a video clip."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from headlift.batch.places import S3, open_place, split_uri
from headlift.errors import InvalidInputError
from headlift.media.clip import Stride, frames
from headlift.settings import Settings

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif")
CLIP_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".m4v")
LIST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
_COLUMNS = {"picture": str, "id": str, "face_index": int, "refine_steps": int}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Item:
    """One portrait to make a head of.

    Attributes:
        index: Its place in the manifest, from 0; of a clip, the temporal order.
        id: Names it within the batch.
        key: The id as part of a file name.
        picture: URI of its picture file, or of the clip.
        frame: Index of the clip's frame; -1 for a picture.
        time_s: When the frame is shown, seconds; 0 for a picture.
        face_index: Takes this face; -1: the largest.
        refine_steps: Instead of the batch's; -1: the batch's.
    """

    index: int
    id: str
    key: str
    picture: str
    frame: int = -1
    time_s: float = 0.0
    face_index: int = -1
    refine_steps: int = -1

    def __post_init__(self) -> None:
        for name, high in (("face_index", 63), ("refine_steps", 1000)):
            if not -1 <= getattr(self, name) <= high:
                raise InvalidInputError(
                    f"{name} of {self.id[:100]!r} is {getattr(self, name)}; it must lie in 0..{high}.", field=name
                )


def read_manifest(uri: str, settings: Settings, stride: Stride | None = None) -> list[Item]:
    """The items of a batch, in order.

    Args:
        uri: A folder, a list, a clip or an S3 prefix. A list has a column ``picture`` (a URI, or a path relative to
            the list), and may have ``id``, ``face_index`` and ``refine_steps``; further columns are left alone.
        settings: Where S3 is.
        stride: Which frames of a clip count.

    Raises:
        InvalidInputError: There is nothing, two items have one id, or the list is not one.
        NotFoundError: There is no such list or clip.
        StoreError: The place cannot be read.
    """
    suffix = PurePosixPath(uri).suffix.lower()
    if suffix in LIST_SUFFIXES:
        rows = _rows_of_list(uri, settings)
    elif suffix in CLIP_SUFFIXES:
        rows = _rows_of_clip(uri, settings, stride or Stride())
    elif uri.startswith(S3) or Path(uri).expanduser().is_dir():
        rows = _rows_of_folder(uri, settings)
    else:
        raise InvalidInputError(
            f"{uri[-200:]} is no folder, no s3:// prefix, no clip and no list; "
            f"a list ends in {', '.join(LIST_SUFFIXES)}.",
            field="manifest",
        )
    if not rows:
        raise InvalidInputError(
            f"There is no picture in {uri[-200:]}; they end in {', '.join(IMAGE_SUFFIXES)}.", field="manifest"
        )
    return _items(rows)


def items_table(items: Iterable[Item]) -> pa.Table:
    """Items as a table, for workers elsewhere."""
    return pa.Table.from_pylist([asdict(item) for item in items])


def items_from_table(table: pa.Table) -> list[Item]:
    """Inverse of ``items_table``."""
    return [Item(**row) for row in table.to_pylist()]


def _rows_of_folder(uri: str, settings: Settings) -> list[dict[str, Any]]:
    place = open_place(uri, settings)
    names = (n for n in place.names() if PurePosixPath(n).suffix.lower() in IMAGE_SUFFIXES)
    return [{"id": name, "picture": f"{place.uri.rstrip('/')}/{name}"} for name in names]


def _rows_of_clip(uri: str, settings: Settings, stride: Stride) -> list[dict[str, Any]]:
    place, name = split_uri(uri)
    clip = open_place(place, settings).read(name)
    stem = PurePosixPath(name).stem
    return [
        {"id": f"{stem}-{f.index:06d}", "picture": uri, "frame": f.index, "time_s": f.time_s}
        for f in frames(clip, stride)
    ]


def _rows_of_list(uri: str, settings: Settings) -> list[dict[str, Any]]:
    place, name = split_uri(uri)
    data = open_place(place, settings).read(name)
    try:
        rows = _parse_list(data, PurePosixPath(name).suffix.lower())
    except (pa.ArrowException, ValueError) as error:
        raise InvalidInputError(f"{name[-200:]} cannot be read as a list ({type(error).__name__}).") from error
    return [_check_row(row, place, line) for line, row in enumerate(rows, 1)]


def _parse_list(data: bytes, suffix: str) -> list[dict[str, Any]]:
    if suffix == ".csv":
        # Ids such as 007 are text, whatever they look like.
        text = pa.csv.ConvertOptions(column_types={"id": pa.string(), "picture": pa.string()})
        return pa.csv.read_csv(io.BytesIO(data), convert_options=text).to_pylist()  # type: ignore[no-any-return]
    if suffix == ".parquet":
        table = pa.parquet.read_table(io.BytesIO(data))
        return table.select([c for c in table.column_names if c in _COLUMNS]).to_pylist()  # type: ignore[no-any-return]
    return [json.loads(line) for line in data.decode().splitlines() if line.strip()]


def _check_row(row: Any, place: str, line: int) -> dict[str, Any]:
    picture = row.get("picture") if isinstance(row, Mapping) else None
    if not isinstance(picture, str) or not picture:
        raise InvalidInputError(f"Item {line} of the list names no picture; give each one in a column `picture`.")
    values = {name: row[name] for name in _COLUMNS if row.get(name) not in (None, "")}
    try:
        values = {name: _COLUMNS[name](value) for name, value in values.items()}
    except (TypeError, ValueError):
        raise InvalidInputError(f"face_index and refine_steps of item {line} must be whole numbers.") from None
    absolute = "://" in picture or picture.startswith("/")
    return {"id": picture} | values | {"picture": picture if absolute else f"{place.rstrip('/')}/{picture}"}


def _items(rows: list[dict[str, Any]]) -> list[Item]:
    repeated = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if repeated:
        raise InvalidInputError(
            f"{len(repeated)} ids stand for several items, such as {repeated[0][:100]!r}; give each its own.",
            field="id",
        )
    return [Item(index=i, key=_key(row["id"]), **row) for i, row in enumerate(rows)]


def _key(name: str) -> str:
    """The id as part of a file name: as it is where that is safe, else its words and a hash that keeps ids apart."""
    if _SAFE_NAME.fullmatch(name):
        return name
    words = _UNSAFE.sub("-", PurePosixPath(name).stem).strip("-")[:60]
    return f"{words}.{hashlib.sha256(name.encode()).hexdigest()[:12]}".lstrip(".")
