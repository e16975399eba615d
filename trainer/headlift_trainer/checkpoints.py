"""Checkpoints of a run: all that it needs to go on, as one safetensors file each; nothing is ever unpickled.

A file is named after its step. Beside the newest few, the best by a figure stays; ``best.json`` says which that is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift_trainer.stores import Store

FORMAT = "headlift.training.v1"
BEST = "best.json"
_NAME = re.compile(r"step-(\d{9})\.safetensors")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The state of a run between two steps."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]  # what JSON can hold


def checkpoint_name(step: int) -> str:
    """File name of the checkpoint after this many steps."""
    return f"step-{step:09d}.safetensors"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        store: Where they are.
        keep: How many of the newest stay.
        best: The figure that names the best one; with a leading "-" less is better. None keeps no best.
    """

    def __init__(self, store: Store, *, keep: int = 2, best: str | None = None) -> None:
        self._store, self._keep = store, keep
        self._figure = best.removeprefix("-") if best else None
        self._sign = -1.0 if best and best.startswith("-") else 1.0

    def steps(self) -> list[int]:
        """Of the checkpoints that are there, oldest first."""
        return sorted(int(match[1]) for name in self._store.names() if (match := _NAME.fullmatch(name)))

    def best_step(self) -> int | None:
        """Of the best checkpoint so far."""
        best = self._read_best()
        return None if best is None else int(best["step"])

    def save(self, snapshot: Snapshot, step: int, figures: Mapping[str, float]) -> str:
        """Write a checkpoint, judge it by its figures and remove those that are no longer needed; its name."""
        name = checkpoint_name(step)
        self._store.put(name, lambda path: write_snapshot(path, snapshot))
        self._judge(step, figures)
        spared = {*self.steps()[-self._keep :], self.best_step()}
        for old in self.steps():
            if old not in spared:
                self._store.delete(checkpoint_name(old))
        return name

    def newest(self) -> tuple[int, Snapshot] | None:
        """The newest checkpoint that is whole, with its step; damaged ones are passed over with a warning."""
        for step in reversed(self.steps()):
            try:
                return step, self.load(step)
            except CorruptWeightsError as error:
                _log.warning("%s; the one before is tried", error.message)
        return None

    def load(self, step: int) -> Snapshot:
        """The checkpoint of this step.

        Raises:
            CorruptWeightsError: It is damaged.
            NotFoundError: There is none.
        """
        with self._store.opened(checkpoint_name(step)) as path:
            return read_snapshot(path)

    def clear(self) -> None:
        """Remove every checkpoint, for a run that starts anew."""
        for step in self.steps():
            self._store.delete(checkpoint_name(step))
        self._store.delete(BEST)

    def _judge(self, step: int, figures: Mapping[str, float]) -> None:
        value = figures.get(self._figure) if self._figure else None
        if value is None:
            return
        best = self._read_best()
        if best is None or self._sign * value > self._sign * float(best["value"]):
            text = json.dumps({"step": step, "figure": self._figure, "value": value})
            self._store.put(BEST, lambda path: _write_text(path, text))

    def _read_best(self) -> dict[str, Any] | None:
        if BEST not in self._store.names():
            return None
        with self._store.opened(BEST) as path:
            best: dict[str, Any] = json.loads(path.read_text())
        return best


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write one safetensors file; its metadata hold the facts and a digest."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in snapshot.tensors.items()}
    description = {"facts": dict(snapshot.facts), "tensors_sha256": _digest(tensors)}
    save_file(tensors, path, metadata={FORMAT: json.dumps(description, sort_keys=True)})


def read_snapshot(path: Path) -> Snapshot:
    """Read what `write_snapshot` wrote, on the CPU.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is damaged, or no checkpoint of a run.
    """
    if not path.is_file():
        raise MissingWeightsError(f"There is no checkpoint {path.name}; start the run anew.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        description = json.loads(metadata[FORMAT])
        facts, digest = dict(description["facts"]), str(description["tensors_sha256"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptWeightsError(f"{path.name} is no whole checkpoint of a run") from error
    if digest != _digest(tensors):
        raise CorruptWeightsError(f"{path.name} does not match its checksum")
    return Snapshot(tensors, facts)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
