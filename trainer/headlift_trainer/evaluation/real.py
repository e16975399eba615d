"""Posed portraits on disk: what the paper's protocols are run on, whichever data set they were cropped from.

A folder of posed portraits holds, for every moment (one person at one time):

    dataset.json              {"name": "Ava-256", "subjects": "ava256"}; subjects: "ava256", "nersemble" or null for all
    MOMENT/cameras.json       {"VIEW": {"viewmat": 4x4 world to camera in the canonical head frame, "K": 3x3 pixels}}
    MOMENT/VIEW.png           the portrait crop with its matte as alpha, square, one size in a moment

A moment's name begins with its subject. ``write_moment`` writes one from anything that is a ``Moment``: the loaders of
data sets need to know nothing of this layout.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import FormatError, NotFoundError
from headlift.model.types import Cameras
from headlift_trainer.datasets.subjects import AVA256_SUBJECTS, NERSEMBLE_SUBJECTS
from headlift_trainer.evaluation import published
from headlift_trainer.evaluation.avatars import Moment
from headlift_trainer.evaluation.folders import read_picture, write_picture
from headlift_trainer.evaluation.records import Records
from headlift_trainer.evaluation.tables import Row

_SUBJECTS = {"ava256": AVA256_SUBJECTS, "nersemble": NERSEMBLE_SUBJECTS}
_PUBLISHED = {"ava256": published.AVA256.rows, "nersemble": published.NERSEMBLE.rows}


@dataclass(frozen=True)
class Source:
    """One data set, as far as the protocol wants it."""

    name: str
    moments: Sequence[Moment]
    found: list[str]  # subjects of the protocol that are there
    missing: list[str]  # and those that are not
    vertical: bool  # whether extreme views include vertical ones, as the paper has it for NeRSemble
    published: tuple[Row, ...]  # the paper's rows on this data


@dataclass(frozen=True)
class StoredMoment:
    """A moment of a folder; pictures are read when they are asked for."""

    folder: Path
    size: int
    view_names: Sequence[str]
    viewmats: Tensor  # [C, 4, 4]
    Ks: Tensor  # [C, 3, 3] pixels of the files

    @property
    def subject(self) -> str:
        """See Moment."""
        return self.folder.name

    def picture(self, view: int) -> tuple[Tensor, Cameras]:
        """See Moment; the crop is brought to the size asked for."""
        path = self.folder / f"{self.view_names[view]}.png"
        if not path.is_file():
            raise NotFoundError(f"{self.folder.name}/ lacks {path.name}, which its cameras.json names.")
        crop = read_picture(path)
        side = crop.shape[-1]
        if crop.shape[0] != 4 or crop.shape[1] != side:
            raise FormatError(f"{self.folder.name}/{path.name} must be a square picture with alpha.")
        camera = Cameras(self.viewmats[view : view + 1], self.Ks[view : view + 1], side, side)
        if side != self.size:
            shape = (self.size, self.size)
            crop = F.interpolate(crop[None], shape, mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 1)
        return crop, camera.resized(self.size, self.size)


def open_source(folder: Path, size: int) -> Source:
    """A folder of posed portraits.

    Args:
        folder: In the layout above.
        size: Side that crops are brought to, pixels.

    Raises:
        NotFoundError: There is no such folder, or no subject of the protocol in it.
        FormatError: A file is not what the layout says.
    """
    about = _read_json(folder / "dataset.json")
    kind = about.get("subjects")
    if kind is not None and kind not in _SUBJECTS:
        raise FormatError(f"dataset.json names the subjects {kind!r}; choose among {', '.join(_SUBJECTS)}, or null.")
    places = sorted(path.parent for path in folder.glob("*/cameras.json"))
    wanted = _SUBJECTS[kind] if kind else tuple(place.name for place in places)
    chosen = [place for place in places if place.name.startswith(wanted)]
    if not chosen:
        raise NotFoundError(f"{folder.name}/ holds none of the {len(wanted)} subjects of the protocol.")
    found = [subject for subject in wanted if any(place.name.startswith(subject) for place in chosen)]
    return Source(
        name=str(about.get("name", folder.name)),
        moments=[read_moment(place, size) for place in chosen],
        found=found,
        missing=[subject for subject in wanted if subject not in found],
        vertical=kind == "nersemble",
        published=_PUBLISHED[kind] if kind else (),
    )


def read_moment(folder: Path, size: int) -> StoredMoment:
    """One moment of such a folder.

    Raises:
        FormatError: Its cameras are not what the layout says.
    """
    views = _read_json(folder / "cameras.json")
    try:
        viewmats = torch.tensor([view["viewmat"] for view in views.values()], dtype=torch.float32)
        Ks = torch.tensor([view["K"] for view in views.values()], dtype=torch.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{folder.name}/cameras.json must give every view a viewmat and a K.") from error
    if viewmats.shape != (len(views), 4, 4) or Ks.shape != (len(views), 3, 3):
        raise FormatError(f"{folder.name}/cameras.json must hold 4x4 view matrices and 3x3 Ks, at least one of each.")
    return StoredMoment(folder, size, tuple(views), viewmats, Ks)


def write_moment(folder: Path, moment: Moment) -> Path:
    """Write a moment of any loader under ``folder``; returns where it lies."""
    place = folder / moment.subject
    cameras = {}
    for view, name in enumerate(moment.view_names):
        picture, camera = moment.picture(view)
        write_picture(place / f"{name}.png", picture)
        cameras[name] = {"viewmat": moment.viewmats[view].tolist(), "K": camera.Ks[0].tolist()}
    (place / "cameras.json").write_text(json.dumps(cameras))
    return place


def since(records: Records, count: int) -> Records:
    """The records after the first ``count``."""
    return Records(list(records)[count:])


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFoundError(
            f"There is no {path.parent.name}/{path.name}; a folder of posed portraits is needed, as "
            "headlift_trainer.evaluation.real describes it."
        )
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise FormatError(f"{path.parent.name}/{path.name} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path.parent.name}/{path.name} must be a JSON object.")
    return value
