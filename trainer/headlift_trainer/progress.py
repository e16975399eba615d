"""What a run tells people while it goes: a progress bar with the time left, a JSON line now and then, curves.

Only the first worker tells anything. Where the results go to S3, the log and the event files go there too, with each
checkpoint.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from tqdm import tqdm

from headlift.errors import NotFoundError
from headlift_trainer.stores import FolderStore, Store
from headlift_trainer.tensorboard import Board

LOG = "log.jsonl"
EVENTS = "tensorboard"
_BAR = "{desc}: {percentage:5.1f}%|{bar}| {elapsed}<{remaining}{postfix}"


class Journal:
    """The records of one run.

    Args:
        name: The task's.
        store: Where results go.
        folder: Where the records are written; for a `FolderStore` its own folder.
        first_step: Records of an earlier attempt that reach past this step are cut: that part is done again.
        quiet: No progress bar.
    """

    def __init__(self, name: str, store: Store, folder: Path, *, first_step: int = 0, quiet: bool = False) -> None:
        self.folder = folder
        self._name, self._store, self._quiet = name, store, quiet
        self._path = folder / LOG
        if not isinstance(store, FolderStore):
            _fetch(store, self._path)
        _cut(self._path, first_step)
        self._board = Board(folder / EVENTS, first_step)
        self._first_step, self._began = first_step, time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()
        if self._bar is not None:
            self._bar.close()
        if kind is None:
            self.share()

    def step(self, step: int, done: float, values: Mapping[str, float]) -> None:
        """After `step` steps, the share `done` of the run; `values` of the last step."""
        rate = (step - self._first_step) / max(time.monotonic() - self._began, 1e-9)
        line = {"step": step, "done": round(done, 5), **values, "steps_per_s": round(rate, 3)}
        self._write(line)
        self._board.curves("train", values, step)
        self._show(step, done, values)

    def figures(self, step: int, figures: Mapping[str, float], pictures: Mapping[str, Tensor]) -> None:
        """Held-out figures and pictures of the averaged parameters."""
        self._write({"step": step, "figures": dict(figures)})
        self._board.curves("held_out", figures, step)
        self._board.pictures(pictures, step)
        self._board.flush()

    def share(self) -> None:
        """Copy the records to where the results are, if that is elsewhere."""
        if isinstance(self._store, FolderStore):
            return
        self._board.flush()
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            name = path.relative_to(self.folder).as_posix()
            self._store.put(name, partial(_copy, path))

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(_plain(line)) + "\n")

    def _show(self, step: int, done: float, values: Mapping[str, float]) -> None:
        if self._bar is None:
            silent = self._quiet or not sys.stderr.isatty()
            self._bar = tqdm(
                total=1.0, desc=self._name, initial=min(done, 1.0), bar_format=_BAR, disable=silent, leave=False
            )
        self._bar.update(done - self._bar.n)
        self._bar.set_postfix({"step": step} | {k: f"{v:.4g}" for k, v in values.items()}, refresh=False)


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers that are not finite become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _fetch(store: Store, path: Path) -> None:
    """The log of an earlier attempt."""
    try:
        with store.opened(LOG) as source:
            _copy(source, path)
    except NotFoundError:
        pass


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _cut(path: Path, last_step: int) -> None:
    """Drop the lines of later steps, and a line that a kill cut off."""
    if not path.is_file():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= last_step]
    path.write_text("".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
