"""What is missing or broken in a data set's folder, and what training would leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headlift.errors import HeadliftError
from headlift_trainer.datasets.filters import Filtered, evenly
from headlift_trainer.datasets.generated import GeneratedHeads
from headlift_trainer.datasets.headframe import facing_degrees
from headlift_trainer.datasets.interface import F32, U8
from headlift_trainer.datasets.opening import detect_kind, open_dataset
from headlift_trainer.datasets.rig import RigDataset, RigMoment
from headlift_trainer.datasets.wild import WildDataset

_MOST = 200  # faults that are listed

Tick = Callable[[], object]


@dataclass
class Report:
    """The outcome."""

    kind: str
    subjects: int = 0
    items: int = 0  # moments or pictures that training can take
    pictures: int = 0  # that were decoded
    broken: list[str] = field(default_factory=list)  # these make the exit code 1
    notes: list[str] = field(default_factory=list)  # usable, but worth knowing
    filtered: Filtered = field(default_factory=Filtered)

    def fault(self, text: str) -> None:
        """Note a fault, each once."""
        if text not in self.broken:
            self.broken.append(text)

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "kind": self.kind,
            "subjects": self.subjects,
            "items": self.items,
            "pictures_decoded": self.pictures,
            "broken": self.broken[:_MOST],
            "broken_count": len(self.broken),
            "notes": self.notes,
            "filtered": self.filtered.json(),
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{self.kind}: {self.subjects} subjects, {self.items} items; {self.pictures} pictures decoded"]
        lines += [f"  BROKEN  {text}" for text in self.broken[:_MOST]]
        lines += [f"  BROKEN  ... and {len(self.broken) - _MOST} more"] if len(self.broken) > _MOST else []
        lines += [f"  note    {text}" for text in self.notes]
        lines += [f"  left out {n:6} {why} ({example})" for why, n, example in self._left_out()]
        return "\n".join([*lines, "nothing is broken" if not self.broken else f"{len(self.broken)} things are broken"])

    def _left_out(self) -> list[tuple[str, int, str]]:
        return [(why, n, self.filtered.examples[why]) for why, n in self.filtered.reasons.most_common()]


class Opaque:
    """A matter that keeps everything: for looking at data that have no masks yet."""

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float]) -> F32:
        """See Matter."""
        return np.ones(rgb.shape[:2], np.float32)


def check(
    folder: Path, kind: str = "auto", *, limit: int = 500, tick: Tick | None = None
) -> tuple[Report, RigDataset | WildDataset | GeneratedHeads]:
    """Look a folder through.

    Args:
        folder: In a published layout.
        kind: One of opening.KINDS, or "auto".
        limit: Decode about so many moments or pictures at most, evenly spread; folders are all listed.
        tick: Called after each of them.

    Returns:
        The report, and the data set with all its subjects, for drawing samples.

    Raises:
        FormatError: There is no such folder, or it is none of the layouts.
    """
    kind = detect_kind(folder) if kind == "auto" else kind
    options: dict[str, Any] = {} if kind == "synthetic" else {"matter": Opaque()}
    options |= {"limit": None} if kind == "ffhq" else {}
    dataset = open_dataset(kind, folder, size=256, split="all", **options)
    report = Report(kind, subjects=len(dataset.subjects), items=len(dataset))
    call = tick or (lambda: None)
    if isinstance(dataset, RigDataset):
        _check_rig(dataset, report, limit, call)
    elif isinstance(dataset, WildDataset):
        _check_wild(dataset, report, limit, call)
    else:
        _check_generated(dataset, report, limit, call)
    report.filtered.reasons.update(dataset.filtered.reasons)
    report.filtered.examples.update(dataset.filtered.examples)
    if not report.items and not report.broken:
        report.fault("There is nothing in it that training could take.")
    return report, dataset


def _check_rig(dataset: RigDataset, report: Report, limit: int, tick: Tick) -> None:
    layout = dataset.layout
    for subject in layout.subjects():
        for text in layout.audit(subject):
            report.fault(text)
    rough, maskless = [], []
    for index in evenly(len(dataset), limit):
        key = dataset.items[index]
        try:
            cameras = layout.cameras(key)
            viewmats = dataset.pose_of(key, cameras).viewmats(cameras.viewmats)
            for name, angle in zip(cameras.names, facing_degrees(viewmats), strict=True):
                if (why := dataset.view_exclusion(key, name, float(angle))) is not None:
                    report.filtered.add(f"view: {why}", f"{key.key}/{name}")
            moment = dataset.moment(index)
        except HeadliftError as error:
            report.fault(error.message)
            continue
        rough += [key.key] if moment.pose.rough else []
        maskless += [key.key] if _check_views(dataset, moment, report) else []
        tick()
    if rough:
        report.notes.append(
            f"{len(rough)} moments have a rough head pose ({rough[0]}): `headlift data prepare` finds better ones."
        )
    _note_masks(report, maskless)


def _check_views(dataset: RigDataset, moment: RigMoment, report: Report) -> bool:
    """Decode and crop every view; whether one has no mask."""
    maskless = False
    for view, name in enumerate(moment.view_names):
        try:
            moment.crop(view)
            report.pictures += 1
            picture = dataset.layout.picture(moment.key, name)
            stored = dataset.stored_matte(moment.key, name, *picture.rgb.shape[:2])
            maskless |= picture.matte is None and stored is None
        except HeadliftError as error:
            report.fault(error.message)
    return maskless


def _check_wild(dataset: WildDataset, report: Report, limit: int, tick: Tick) -> None:
    for text in dataset.layout.audit():
        report.fault(text)
    maskless = []
    for index in evenly(len(dataset), limit):
        key = dataset.items[index]
        try:
            dataset.crop(index)
            report.pictures += 1
            maskless += [] if dataset.has_mask(key) else [key.key]
        except HeadliftError as error:
            report.fault(error.message)
        tick()
    _note_masks(report, maskless)


def _check_generated(dataset: GeneratedHeads, report: Report, limit: int, tick: Tick) -> None:
    rng = np.random.default_rng(0)
    for index in evenly(len(dataset), limit):
        try:
            report.pictures += len(dataset.sample(index, rng, 1).targets)
        except HeadliftError as error:
            report.fault(error.message)
        tick()


def _note_masks(report: Report, maskless: list[str]) -> None:
    if maskless:
        report.notes.append(
            f"{len(maskless)} have no masks ({maskless[0]}): `headlift data prepare` makes them; training refuses "
            "pictures without."
        )
