"""Typical outlines of hair, hats and glasses, for words that are shapes (headlift.model.edit.map_words).

Hair is a mean of signed distances, as hair of a length looks alike; what is worn is one of the things that were seen,
the one most like all others: a mean of frames is no frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from headlift.model.edit.map_words import CURLS, F32, LENGTHS, SIDE, WORN, MapWords, Mask, eyes_of, signed_distance
from headlift.stages.preprocess.interfaces import CLASSES
from headlift_trainer.editing.data import EditHeads
from headlift_trainer.editing.words import values_of

_SIGHTS = (0, 1)  # of the packed views: front, 45 degrees
_HAIR, _HAT, _GLASSES = (CLASSES.index(name) for name in ("hair", "hat", "eyeg"))
_BLURRED = 5  # pixels; frames that nearly lie upon each other are alike


def fit_outlines(words: MapWords, heads: EditHeads) -> dict[str, int]:
    """Fill every field; those that no head shows stay empty.

    Returns:
        How many heads each outline was seen on, by value.
    """
    counts: dict[str, int] = {}
    values = [values_of(record) for record in heads.records]
    for sight, view in enumerate(_SIGHTS):
        maps = [heads.maps[row, view] for row in range(len(heads))]
        bare = [row for row, v in enumerate(values) if v.get("hat") == "none" and (maps[row] != _HAT).all()]
        for i, length in enumerate(LENGTHS):
            rows = [row for row in bare if values[row].get("hair length") == length]
            counts[length] = len(rows)
            if rows and length != "bald":
                words.hair[sight, i] = torch.from_numpy(_mean([maps[row] == _HAIR for row in rows]))
            for j, curl in enumerate(CURLS):
                alike = [row for row in rows if values[row].get("curl") == curl]
                counts[f"{length} {curl}"] = len(alike)
                if alike and length != "bald":
                    words.curls[sight, j, i - 1] = torch.from_numpy(_mean([maps[row] == _HAIR for row in alike]))
        shorn = [row for row in bare if values[row].get("hair length") in ("bald", "short")]
        if shorn:
            # Of short hair, what is not hair may lie behind it: the skull of the bald, the shoulders of everybody.
            bald = [row for row in shorn if values[row]["hair length"] == "bald"] or shorn
            skull = _mean([np.isin(maps[row], (0, 3), invert=True) for row in bald])
            below = _mean([np.isin(maps[row], (0, _HAIR), invert=True) for row in shorn])
            words.head[sight] = torch.from_numpy(np.maximum(skull, below))
        found = [e for row in bare if (e := eyes_of(maps[row])) is not None]
        if found:
            words.eyes[sight] = torch.from_numpy(np.mean(found, 0))
        for i, (group, value) in enumerate(WORN):
            label = _HAT if group == "hat" else _GLASSES
            rows = [r for r, v in enumerate(values) if v.get(group) == value and (maps[r] == label).sum() > SIDE // 4]
            rows = [r for r in rows if eyes_of(maps[r]) is not None]
            counts[value] = len(rows)
            if rows:
                chosen = maps[rows[_typical([maps[r] == label for r in rows])]]
                words.worn[sight, i] = torch.from_numpy(signed_distance(chosen == label))
                words.worn_eyes[sight, i] = torch.from_numpy(eyes_of(chosen))
    return counts


def _mean(masks: Sequence[Mask]) -> F32:
    mean: F32 = np.mean([signed_distance(mask) for mask in masks], 0, dtype=np.float32)
    return mean


def _typical(masks: Sequence[Mask]) -> int:
    """The one that agrees best with the others."""
    soft = np.stack([cv2.GaussianBlur(m.astype(np.float32), (_BLURRED, _BLURRED), 0).ravel() for m in masks])
    soft = soft / np.linalg.norm(soft, axis=1, keepdims=True).clip(1e-6)
    return int((soft @ soft.T).sum(1).argmax())
