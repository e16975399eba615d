"""One item after the other: read the image, run the stages, write the outputs, store the row."""

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

from headlift.backend.protocol import Backend, HeadRef
from headlift.batch.manifest import Item
from headlift.batch.output_spec import SUFFIXES, OutputSpec
from headlift.batch.places import Place, open_place, split_uri
from headlift.batch.results import DONE, FAILED, REFUSED, Output, ResultLog, Row
from headlift.errors import HeadliftError, InvalidInputError, NotFoundError, PictureTooLargeError, StoreError
from headlift.gateway import exports
from headlift.media.clip import Frame, frames
from headlift.media.pictures import RenderOptions
from headlift.media.video import write_video
from headlift.model.cameras import orbit_cameras
from headlift.settings import Settings
from headlift.stages.clock import Stopwatch
from headlift.stages.preprocess import PreprocessOptions, SeveralFaces
from headlift.stages.rpc import unpack_head
from headlift.stages.stop_token import StopToken
from headlift.v1 import head_service_pb2 as pb

T = TypeVar("T")
_log = logging.getLogger(__name__)
_STORE_TRIES, _STORE_WAIT_S = 4, 0.5
WORKER_CRASHED = "WORKER_CRASHED"


@dataclass
class _ItemState:
    """What is known of an item while it is worked on."""

    watch: Stopwatch = field(default_factory=Stopwatch)
    outputs: list[Output] = field(default_factory=list)
    columns: dict[str, object] = field(default_factory=dict)


class ItemWorker:
    """Does one item at a time; one per process."""

    def __init__(self, backend: Backend, out: Place, spec: OutputSpec, settings: Settings) -> None:
        self._backend, self._out, self._spec, self._settings = backend, out, spec, settings
        self._log = ResultLog(out)
        self._clip: tuple[str, Iterator[Frame]] | None = None
        self._places: dict[str, Place] = {}

    def do_block(self, items: list[Item]) -> list[Row]:
        """Do a block of items, or what is left of it, and store its rows.

        Raises:
            StoreError: The place of the results fails for longer than a moment.
        """
        # Ray asks again for what it has lost of a worker that died, finished or not.
        stored = _retry_store(lambda: self._log.read_block(items))
        if stored is not None:
            return stored
        rows = [self.do_item(item) for item in items]
        _retry_store(lambda: self._log.write_block(items, rows))
        return rows

    def do_item(self, item: Item) -> Row:
        """Do one item, unless it is done; faults of the picture end in its row."""
        attempts = self._log.read_item(item)
        if isinstance(attempts, Row):
            return attempts
        if attempts >= self._spec.attempts:
            message = (
                f"{attempts} workers died over this picture, which is the limit; look at it, or allow more attempts."
            )
            row = self._row(item, _ItemState(), FAILED, WORKER_CRASHED, message)
            row = replace(row, attempts=attempts)
        else:
            _retry_store(lambda: self._log.begin_item(item, attempts + 1))
            row = replace(self._attempt(item), attempts=attempts + 1)
        _retry_store(lambda: self._log.finish_item(item, row))
        return row

    def _attempt(self, item: Item) -> Row:
        state, begin = _ItemState(), time.perf_counter()
        try:
            self._make(item, state)
            row = self._row(item, state, DONE, "OK", "")
        except StoreError:
            raise
        except (InvalidInputError, NotFoundError) as error:
            row = self._row(item, state, REFUSED, error.reason, error.message)
        except HeadliftError as error:
            row = self._row(item, state, FAILED, error.reason, error.message)
        except Exception as error:
            _log.exception("item %s", item.id)
            row = self._row(item, state, FAILED, "INTERNAL", f"An internal error ({type(error).__name__}).")
        return replace(row, seconds=time.perf_counter() - begin)

    def _make(self, item: Item, state: _ItemState) -> None:
        watch, spec, token = state.watch, self._spec, StopToken()
        with watch.timing("read"):
            image = _retry_store(lambda: self._read_image(item))
        state.columns["input_sha256"] = hashlib.sha256(image).hexdigest()
        several = SeveralFaces.REFUSE if spec.refuse_several else SeveralFaces.LARGEST
        options = PreprocessOptions(several, None if item.face_index < 0 else item.face_index)
        with watch.timing("preprocess"):
            preprocessed = self._backend.preprocess(image, options, token)
        state.columns |= {
            "quality_score": preprocessed.quality.score,
            "quality_reasons": list(preprocessed.quality.reasons),
        }
        steps = spec.refine_steps if item.refine_steps < 0 else item.refine_steps
        result = self._backend.reconstruct(preprocessed.portrait, steps, token)
        watch.add_all(result.stage_timings)
        state.columns |= {
            "weights_hash": result.weights_hash,
            "gaussian_count": result.gaussian_count,
            "refine_steps": result.refine_steps,
        }
        self._export(item, result.gaussians, state)
        if spec.views or spec.turntable_frames:
            head = HeadRef(item.key, lambda: unpack_head(result.gaussians), lambda: result.gaussians)
            self._views(item, head, state)
            self._turntable(item, head, state)

    def _export(self, item: Item, wire: bytes, state: _ItemState) -> None:
        for kind in self._spec.exports:
            with state.watch.timing("export"):
                data = exports.convert(wire, pb.ExportFormat.Value(f"EXPORT_FORMAT_{kind.upper()}"))
            self._write(kind, f"heads/{item.key}.{SUFFIXES.get(kind, kind)}", data, state)

    def _views(self, item: Item, head: HeadRef, state: _ItemState) -> None:
        spec = self._spec
        if not spec.views:
            return
        yaws, pitches = zip(*spec.views, strict=True)
        cameras = orbit_cameras(list(yaws), list(pitches), width=spec.size, height=spec.size)
        images = self._backend.render(head, cameras, spec.render_options, StopToken())
        state.watch.add_all(images.timings)
        suffix = SUFFIXES.get(spec.view_format, spec.view_format)
        for (yaw, pitch), data in zip(spec.views, images.pictures, strict=True):
            self._write("view", f"views/{item.key}/yaw{yaw:+g}pitch{pitch:+g}.{suffix}", data, state)

    def _turntable(self, item: Item, head: HeadRef, state: _ItemState) -> None:
        spec = self._spec
        if not spec.turntable_frames:
            return
        options = RenderOptions(spec.size, spec.size, "raw_uint8")
        yaws = [360.0 * i / spec.turntable_frames for i in range(spec.turntable_frames)]

        def frames_around() -> Iterator[np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]]:
            for yaw in yaws:
                camera = orbit_cameras([yaw], width=spec.size, height=spec.size)
                data = self._backend.render(head, camera, options, StopToken()).pictures[0]
                yield np.frombuffer(data, np.uint8).reshape(spec.size, spec.size, 3)

        with state.watch.timing("turntable"), tempfile.TemporaryDirectory(prefix="headlift-") as scratch:
            path = Path(scratch) / "turntable.mp4"
            write_video(frames_around(), path, spec.turntable_fps)
            data = path.read_bytes()
        self._write("turntable", f"turntables/{item.key}.mp4", data, state)

    def _write(self, kind: str, name: str, data: bytes, state: _ItemState) -> None:
        with state.watch.timing("write"):
            _retry_store(lambda: self._out.write(name, data))
        state.outputs.append(Output(kind, name, hashlib.sha256(data).hexdigest(), len(data)))

    def _read_image(self, item: Item) -> bytes:
        """The item's image file. PictureTooLargeError: it is; nothing was read."""
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

    def _row(self, item: Item, state: _ItemState, status: str, reason: str, message: str) -> Row:
        return Row(
            index=item.index,
            id=item.id,
            picture=item.picture,
            frame=item.frame,
            time_s=item.time_s,
            status=status,
            reason=reason,
            message=message,
            outputs=state.outputs,
            stages_ms=state.watch.spent_ms,
            finished_at=time.time(),
            **state.columns,  # type: ignore[arg-type]
        )


def _retry_store(action: Callable[[], T]) -> T:
    """What ``action`` gives; tried again for a few seconds while the place fails."""
    for attempt in range(_STORE_TRIES - 1):
        try:
            return action()
        except StoreError as error:
            _log.warning("trying again: %s", error.message)
            time.sleep(_STORE_WAIT_S * 2**attempt)
    return action()
