"""One item after the other: read the picture, run the stages, write what is wanted, note what came of it."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from headlift.batch.job import SUFFIXES, Wanted
from headlift.batch.manifest import Item
from headlift.batch.places import Place, open_place, split_uri
from headlift.batch.results import DONE, FAILED, REFUSED, Output, ResultLog, Row
from headlift.errors import HeadliftError, InvalidInputError, NotFoundError, PictureTooLargeError, StoreError
from headlift.gateway import exports
from headlift.gateway.context import StopToken
from headlift.gateway.draw import Draw
from headlift.gateway.portraits import Look as LookAt
from headlift.gateway.reconstruct import Reconstructor
from headlift.gateway.timing import Stopwatch
from headlift.model.cameras import orbit_cameras
from headlift.model.types import Gaussians
from headlift.preprocess import PreprocessOptions, SeveralFaces
from headlift.preprocess.clip import Frame, frames
from headlift.render.pictures import Look
from headlift.render.video import write_film
from headlift.serving.network import unpack_head
from headlift.settings import Settings
from headlift.v1 import head_service_pb2 as pb

T = TypeVar("T")
_log = logging.getLogger(__name__)
_STORE_TRIES, _STORE_WAIT_S = 4, 0.5
WORKER_CRASHED = "WORKER_CRASHED"


@dataclass(frozen=True)
class Computing:
    """The stages that a batch calls."""

    look: LookAt
    reconstruct: Reconstructor
    draw: Draw


@dataclass
class _Making:
    """An item on its way."""

    watch: Stopwatch = field(default_factory=Stopwatch)
    outputs: list[Output] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)


class ItemMaker:
    """Does items; one per worker, which does one at a time."""

    def __init__(self, computing: Computing, out: Place, wanted: Wanted, settings: Settings) -> None:
        self._computing, self._out, self._wanted, self._settings = computing, out, wanted, settings
        self._log = ResultLog(out)
        self._clip: tuple[str, Iterator[Frame]] | None = None
        self._places: dict[str, Place] = {}

    def block(self, items: list[Item]) -> list[Row]:
        """Do a block of items, or what is left of it, and keep its rows.

        Raises:
            StoreError: The place of the results fails for longer than a moment.
        """
        # Ray asks again for what it has lost of a worker that died, finished or not.
        kept = _patiently(lambda: self._log.kept(items))
        if kept is not None:
            return kept
        rows = [self.item(item) for item in items]
        _patiently(lambda: self._log.keep(items, rows))
        return rows

    def item(self, item: Item) -> Row:
        """Do one item, unless it is done; faults of the picture end in its row."""
        noted = self._log.in_hand(item)
        if isinstance(noted, Row):
            return noted
        if noted >= self._wanted.attempts:
            told = f"{noted} workers died over this picture, which is the limit; look at it, or allow more attempts."
            row = self._row(item, _Making(), FAILED, WORKER_CRASHED, told)
            row = replace(row, attempts=noted)
        else:
            _patiently(lambda: self._log.begin(item, noted + 1))
            row = replace(self._made(item), attempts=noted + 1)
        _patiently(lambda: self._log.finish(item, row))
        return row

    def _made(self, item: Item) -> Row:
        making, begin = _Making(), time.perf_counter()
        try:
            self._make(item, making)
            row = self._row(item, making, DONE, "OK", "")
        except StoreError:
            raise
        except (InvalidInputError, NotFoundError) as error:
            row = self._row(item, making, REFUSED, error.reason, error.message)
        except HeadliftError as error:
            row = self._row(item, making, FAILED, error.reason, error.message)
        except Exception as error:
            _log.exception("item %s", item.id)
            row = self._row(item, making, FAILED, "INTERNAL", f"An internal error ({type(error).__name__}).")
        return replace(row, seconds=time.perf_counter() - begin)

    def _make(self, item: Item, making: _Making) -> None:
        watch, wanted, token = making.watch, self._wanted, StopToken()
        with watch.timing("read"):
            picture = _patiently(lambda: self._picture(item))
        making.facts["input_sha256"] = hashlib.sha256(picture).hexdigest()
        several = SeveralFaces.REFUSE if wanted.refuse_several else SeveralFaces.LARGEST
        options = PreprocessOptions(several, None if item.face_index < 0 else item.face_index)
        with watch.timing("preprocess"):
            seen = self._computing.look(picture, options, token)
        making.facts |= {
            "quality_score": seen.quality.score,
            "quality_reasons": list(seen.quality.reasons),
        }
        steps = wanted.refine_steps if item.refine_steps < 0 else item.refine_steps
        made = self._computing.reconstruct(seen.portrait, steps, token)
        watch.add_all(made.stage_timings)
        making.facts |= {
            "weights_hash": made.weights_hash,
            "gaussian_count": made.gaussian_count,
            "refine_steps": made.refine_steps,
        }
        self._export(item, made.gaussians, making)
        if wanted.views or wanted.turntable_frames:
            head = unpack_head(made.gaussians)
            self._views(item, head, making)
            self._turntable(item, head, making)

    def _export(self, item: Item, wire: bytes, making: _Making) -> None:
        for kind in self._wanted.exports:
            with making.watch.timing("export"):
                data = exports.convert(wire, pb.ExportFormat.Value(f"EXPORT_FORMAT_{kind.upper()}"))
            self._write(kind, f"heads/{item.key}.{SUFFIXES.get(kind, kind)}", data, making)

    def _views(self, item: Item, head: Gaussians, making: _Making) -> None:
        wanted = self._wanted
        if not wanted.views:
            return
        yaws, pitches = zip(*wanted.views, strict=True)
        cameras = orbit_cameras(list(yaws), list(pitches), width=wanted.size, height=wanted.size)
        shots = self._computing.draw.draw(head, cameras, wanted.look, StopToken())
        making.watch.add_all(shots.timings)
        suffix = SUFFIXES.get(wanted.view_format, wanted.view_format)
        for (yaw, pitch), data in zip(wanted.views, shots.pictures, strict=True):
            self._write("view", f"views/{item.key}/yaw{yaw:+g}pitch{pitch:+g}.{suffix}", data, making)

    def _turntable(self, item: Item, head: Gaussians, making: _Making) -> None:
        wanted = self._wanted
        if not wanted.turntable_frames:
            return
        look = Look(wanted.size, wanted.size, "raw_uint8")
        yaws = [360.0 * i / wanted.turntable_frames for i in range(wanted.turntable_frames)]

        def pictures() -> Iterator[np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]]:
            for yaw in yaws:
                camera = orbit_cameras([yaw], width=wanted.size, height=wanted.size)
                data = self._computing.draw.draw(head, camera, look, StopToken()).pictures[0]
                yield np.frombuffer(data, np.uint8).reshape(wanted.size, wanted.size, 3)

        with making.watch.timing("turntable"), tempfile.TemporaryDirectory(prefix="headlift-") as scratch:
            film = Path(scratch) / "film.mp4"
            write_film(pictures(), film, wanted.turntable_fps)
            data = film.read_bytes()
        self._write("turntable", f"turntables/{item.key}.mp4", data, making)

    def _write(self, kind: str, name: str, data: bytes, making: _Making) -> None:
        with making.watch.timing("write"):
            _patiently(lambda: self._out.write(name, data))
        making.outputs.append(Output(kind, name, hashlib.sha256(data).hexdigest(), len(data)))

    def _picture(self, item: Item) -> bytes:
        """The item's picture file. PictureTooLargeError: it is; nothing was read."""
        uri, name = split_uri(item.picture)
        place = self._places.setdefault(uri, open_place(uri, self._settings))
        if item.frame >= 0:
            return self._frame(item, place, name).png()
        size, limit = place.size(name), self._settings.picture_bytes_max
        if size > limit:
            raise PictureTooLargeError(
                f"The picture has {size:,} bytes; the limit is {limit:,}. Compress or shrink it."
            )
        return place.read(name)

    def _frame(self, item: Item, place: Place, name: str) -> Frame:
        """A frame of a clip; blocks come in order, so that a clip is decoded about once per worker."""
        for attempt in range(2):
            if attempt or self._clip is None or self._clip[0] != item.picture:
                self._clip = (item.picture, frames(place.read(name)))
            for frame in self._clip[1]:
                if frame.index == item.frame:
                    return frame
                if frame.index > item.frame:
                    break
        raise InvalidInputError(f"The clip has no frame {item.frame}; it has become shorter.", reason="NO_FRAME")

    def _row(self, item: Item, making: _Making, status: str, reason: str, message: str) -> Row:
        return Row(
            index=item.index,
            id=item.id,
            picture=item.picture,
            frame=item.frame,
            time_s=item.time_s,
            status=status,
            reason=reason,
            message=message,
            outputs=making.outputs,
            stages_ms=making.watch.spent_ms,
            finished_at=time.time(),
            **making.facts,  # type: ignore[arg-type]
        )


def _patiently(action: Callable[[], T]) -> T:
    """What ``action`` gives; a place that fails is asked again for a few seconds."""
    for attempt in range(_STORE_TRIES - 1):
        try:
            return action()
        except StoreError as error:
            _log.warning("asking again: %s", error.message)
            time.sleep(_STORE_WAIT_S * 2**attempt)
    return action()
