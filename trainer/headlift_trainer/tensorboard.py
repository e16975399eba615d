"""Curves and pictures of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_GAP = 2  # pixels between the cells of a grid


class Board:
    """Writes event files into a folder; does nothing where the package `tensorboard` is not installed.

    Args:
        folder: Where the event files go.
        first_step: Curves of an earlier attempt are cut here.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        self._writer: Any = None
        try:
            # Imported here: slow, and a dependency of training alone.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder), purge_step=first_step or None)

    def curves(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        """One point of each curve ``prefix/name``."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{prefix}/{name}", value, step)

    def pictures(self, pictures: Mapping[str, Tensor], step: int) -> None:
        """Pictures [3, H, W] or [C, 3, H, W] in 0..1; several become a grid."""
        if self._writer is not None:
            for name, picture in pictures.items():
                cells = list(picture) if picture.dim() == 4 else [picture]
                self._writer.add_image(name, grid(cells), step)

    def flush(self) -> None:
        """Everything so far is on disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """The last of it is on disk."""
        if self._writer is not None:
            self._writer.close()


def grid(pictures: Sequence[Tensor], columns: int | None = None) -> Tensor:
    """Pictures [3, h, w] in 0..1 of any sizes, in rows of `columns`, each padded with black to the largest.

    Args:
        pictures: At least one.
        columns: None makes the grid about square.
    """
    columns = columns or max(1, round(len(pictures) ** 0.5))
    height, width = (max(p.shape[i] for p in pictures) for i in (1, 2))
    cells = [_padded(p.detach().float().cpu().clamp(0, 1), height, width) for p in pictures]
    cells += [torch.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [torch.cat(cells[i : i + columns], -1) for i in range(0, len(cells), columns)]
    return torch.cat(rows, -2)[:, :-_GAP, :-_GAP]


def _padded(picture: Tensor, height: int, width: int) -> Tensor:
    return F.pad(picture, (0, width + _GAP - picture.shape[2], 0, height + _GAP - picture.shape[1]))
