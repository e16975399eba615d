"""What training leaves out: backs of heads, occluded faces, too many of one kind, and the people it is tested on.

Lists that a user writes beside the data, one name a line, ``#`` starts a comment:

    headlift_exclude.txt   moments, pictures or subjects to leave out; what follows the name on its line is the reason
    headlift_subset.txt    pictures to take, and no others
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from headlift_trainer.datasets.interface import F64, U8
from headlift_trainer.datasets.subjects import AVA256_SUBJECTS, NERSEMBLE_SUBJECTS

EXCLUDE_FILE, SUBSET_FILE = "headlift_exclude.txt", "headlift_subset.txt"
FURTHEST_DEG = 100.0  # from the face's axis; a camera further round sees hair and an ear
FFHQ_SUBSET = 3000  # pictures that the paper takes
_FFHQ_VALIDATION = 60_000  # the published split: the pictures from here on
_VALIDATION_SHARE = 0.02  # of the subjects, where neither data set nor paper names any
_OCCLUDED_SHARE = 0.08  # of the face's area that may be something else

Split = Literal["train", "validation", "all"]


@dataclass
class Filtered:
    """What was left out and why."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count one, and keep the first of its kind as the example."""
        self.reasons[reason] += 1
        self.examples.setdefault(reason, name)

    def json(self) -> list[dict[str, object]]:
        """For machines, the most frequent first."""
        return [{"reason": r, "count": n, "example": self.examples[r]} for r, n in self.reasons.most_common()]


def read_list(path: Path) -> dict[str, str]:
    """Names of a list and what stands behind them; empty where there is no such file."""
    if not path.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    pairs = (line.partition(" ") for line in lines if line)
    return {name: reason.strip() for name, _, reason in pairs}


def in_split(kind: str, subject: str, split: Split) -> bool:
    """Whether a subject belongs to a split.

    The paper's evaluation subjects are never trained on; FFHQ has a published split; elsewhere a subject's name
    decides by its hash, so that adding subjects moves none of the others.
    """
    return split == "all" or held_out(kind, subject) == (split == "validation")


def held_out(kind: str, subject: str) -> bool:
    """Whether a subject is kept for validation and evaluation."""
    if kind == "nersemble":
        return subject in NERSEMBLE_SUBJECTS
    if kind == "ava256":
        return subject in AVA256_SUBJECTS
    if kind == "ffhq":
        return int(subject) >= _FFHQ_VALIDATION
    return rank(subject) < _VALIDATION_SHARE


def rank(name: str) -> float:
    """A number in 0..1 that depends on the name alone, on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def subset(names: Iterable[str], count: int) -> list[str]:
    """`count` names, chosen by their rank, in their order: the same ones whichever others there are."""
    every = list(names)
    chosen = set(sorted(every, key=rank)[:count])
    return [name for name in every if name in chosen]


def evenly(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` indices, evenly spread; all where there are not more."""
    return list(range(count)) if wanted >= count else [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def occlusion_of(features: object) -> str | None:
    """What is occluded by the FFHQ features file of a picture (``json/00000.json`` of the FFHQ Features Dataset)."""
    faces = features if isinstance(features, list) else [features]
    for face in faces:
        attributes = face.get("faceAttributes", {}) if isinstance(face, dict) else {}
        hidden = [name.removesuffix("Occluded") for name, on in attributes.get("occlusion", {}).items() if on]
        if hidden:
            return "occluded " + " and ".join(sorted(hidden))
    return None


def occluded_share(labels: U8, face: F64, allowed: Sequence[int]) -> float:
    """Share of a face's outline that a parsing shows as something that no face has in front of it.

    Args:
        labels: [H, W] classes.
        face: [L, 2] landmarks, pixels; their convex hull is the face.
        allowed: Classes that belong there: skin, features, hair, glasses.
    """
    import cv2

    inside = np.zeros(labels.shape, np.uint8)
    cv2.fillConvexPoly(inside, cv2.convexHull(face.round().astype(np.int32)), 1)
    count = int(inside.sum())
    return float(((inside > 0) & ~np.isin(labels, allowed)).sum() / count) if count else 1.0


def occluded(share: float) -> bool:
    """Whether so much of a face is hidden that the picture misleads."""
    return share > _OCCLUDED_SHARE
