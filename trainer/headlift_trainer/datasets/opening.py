"""From a folder to a data set: which one it is, and how the trainer's own loop reads it.

Legend: S picture side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headlift.errors import FormatError, InvalidInputError
from headlift_trainer.datasets.ava256 import Ava256
from headlift_trainer.datasets.cafca import Cafca
from headlift_trainer.datasets.ffhq import Ffhq
from headlift_trainer.datasets.filters import FFHQ_SUBSET, Split
from headlift_trainer.datasets.generated import GeneratedHeads
from headlift_trainer.datasets.interface import HeadDataset, PictureSample
from headlift_trainer.datasets.mixture import Source
from headlift_trainer.datasets.nersemble import Nersemble
from headlift_trainer.datasets.rig import RigDataset
from headlift_trainer.datasets.vfhq import Vfhq
from headlift_trainer.datasets.wild import WildDataset

_log = logging.getLogger(__name__)
KINDS = ("nersemble", "cafca", "ffhq", "vfhq", "ava256", "synthetic")
_SIGNS: tuple[tuple[str, str], ...] = (
    ("synthetic", "head_*_*.npz"),
    ("nersemble", "[0-9][0-9][0-9]/calibration"),
    ("ava256", "*--*--*/decoder"),
    ("cafca", "[0-9][0-9][0-9][0-9][0-9]/*_*/cameras_json"),
    ("cafca", "*-*/[0-9][0-9][0-9][0-9][0-9]/*_*/cameras_json"),
    ("ffhq", "images1024x1024"),
    ("ffhq", "ffhq-dataset-v2.json"),
    ("ffhq", "[0-9][0-9][0-9][0-9][0-9]/[0-9][0-9][0-9][0-9][0-9].png"),
    ("vfhq", "Clip+*"),
    ("vfhq", "*/Clip+*"),
    ("vfhq", "*/*/Clip+*"),
    ("nersemble", "[0-9][0-9][0-9]/sequences"),
)
_TRIES = 16


def detect_kind(folder: Path) -> str:
    """Which data set a folder holds, by its layout.

    Raises:
        FormatError: There is no such folder, or it looks like none of them.
    """
    if not folder.is_dir():
        raise FormatError(f"There is no folder {folder.name}.")
    for kind, pattern in _SIGNS:
        if next(folder.glob(pattern), None) is not None:
            return kind
    raise FormatError(
        f"{folder.name} looks like none of {', '.join(KINDS)}; name its kind, or give the folder above it."
    )


def open_dataset(
    kind: str, folder: Path, *, size: int = 512, split: Split = "train", **options: Any
) -> RigDataset | WildDataset | GeneratedHeads:
    """A data set as training takes it.

    Args:
        kind: One of KINDS; "generated" is another word for synthetic.
        folder: Its folder, in the published layout.
        size: Side of the crops, pixels.
        split: Which subjects.
        options: What RigDataset, WildDataset or GeneratedHeads take beside these.

    Raises:
        InvalidInputError: No such kind.
        FormatError: No such folder.
    """
    if not folder.is_dir():
        raise FormatError(f"There is no folder {folder.name}.")
    if kind in ("synthetic", "generated"):
        return GeneratedHeads(folder, size=size, split=split, **options)
    if kind == "ffhq":
        return WildDataset(Ffhq(folder), size=size, split=split, **({"limit": FFHQ_SUBSET} | options))
    if kind == "vfhq":
        return WildDataset(Vfhq(folder), size=size, split=split, **options)
    rigs = {"nersemble": Nersemble, "cafca": Cafca, "ava256": Ava256}
    if kind not in rigs:
        raise InvalidInputError(f"There is no data set {kind!r}; choose of {', '.join(KINDS)}.")
    return RigDataset(rigs[kind](folder), size=size, split=split, **options)


class DatasetSource:
    """A data set as the trainer's loop draws from it (`headlift_trainer.datasets.mixture.Source`)."""

    def __init__(self, dataset: HeadDataset) -> None:
        self.dataset = dataset
        self.name = dataset.name

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, generator: torch.Generator, views: int) -> PictureSample:
        """A random item; a broken one is drawn anew.

        Raises:
            FormatError: Many in a row are broken.
        """
        seed = torch.randint(2**31, (2,), generator=generator).tolist()
        rng = np.random.default_rng(seed)
        for attempt in range(_TRIES):
            try:
                return self.dataset.sample(int(rng.integers(len(self.dataset))), rng, views)
            except FormatError as error:
                if attempt == _TRIES - 1:
                    raise
                _log.warning("%s", error.message)
        raise AssertionError


def open_pair(kind: str, folder: Path, *, size: int = 512) -> tuple[Source, Source]:
    """Training and held-out portraits of a data set."""
    train, held_out = (DatasetSource(open_dataset(kind, folder, size=size, split=s)) for s in ("train", "validation"))
    return train, held_out


def open_generated(folder: Path) -> tuple[Source, Source]:
    """Training and held-out heads of our generator, at the size that they were rendered."""
    train, held_out = (DatasetSource(GeneratedHeads(folder, split=s)) for s in ("train", "validation"))
    return train, held_out


# From a data set's name to what opens its folder: training and held-out portraits.
SOURCE_OPENERS: dict[str, Callable[[Path], tuple[Source, Source]]] = {
    kind: partial(open_pair, kind) for kind in KINDS if kind != "synthetic"
} | {"generated": open_generated}
