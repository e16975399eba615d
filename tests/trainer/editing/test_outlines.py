"""Outlines of hair and of what is worn, from generated maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from headlift.model.edit.map_words import LENGTHS, REACH, WORN, MapWords
from headlift_trainer.editing.data import EditHeads
from headlift_trainer.editing.outlines import fit_outlines

HAIR, HAT = 14, 16


def test_outlines_are_those_of_the_heads(sets: tuple[EditHeads, EditHeads]) -> None:
    train, _ = sets
    words = MapWords()
    counts = fit_outlines(words, train)
    assert counts["short"] == len(train)
    assert counts["long"] == counts["hat"] == 0
    seen = torch.nn.functional.interpolate(words.hair[:1, LENGTHS.index("short")][None], train.maps.shape[2:])[0, 0]
    assert torch.equal(seen > 0, torch.from_numpy(train.maps[0, 0] == HAIR))
    assert (words.hair[:, LENGTHS.index("long")] == -REACH).all()
    assert (words.hair[:, LENGTHS.index("bald")] == -REACH).all()
    assert counts["short straight"] == len(train)
    assert torch.equal(words.curls[:, 0, 0], words.hair[:, LENGTHS.index("short")])
    assert (words.curls[:, 1] == -REACH).all()
    face = torch.from_numpy(train.maps[0, 0] == 2)
    assert (words.head[0][face] > 0).all()


def test_what_is_worn_has_the_outline_of_one_that_was_seen(sets: tuple[EditHeads, EditHeads]) -> None:
    maps = np.array(sets[0].maps)
    records = [dict(r) for r in sets[0].records]
    maps[:, :, 60:64, 40:50], maps[:, :, 60:64, 70:80] = 8, 9
    for row, height in ((0, 20), (1, 21), (2, 60)):  # two hats that are alike, and a strange one
        maps[row, :, 2:height, 30:90] = HAT
        records[row]["hat"] = "cap"
    words = MapWords()
    assert fit_outlines(words, replace(sets[0], maps=maps, records=records))["hat"] == 3
    hat = words.worn[0, WORN.index(("hat", "hat"))] > 0
    assert torch.equal(hat, torch.from_numpy(maps[0, 0] == HAT)) or torch.equal(
        hat, torch.from_numpy(maps[1, 0] == HAT)
    )
    assert (words.worn_eyes[0, 0, 0, 0] - 45 / 128).abs() < 1e-3
