"""Fits what age, sex and make-up leave on a face (headlift.model.edit.complexion): a regression on anchor targets.

All traits that are known of a head explain its anchors' colours together, so that grey hair, a beard or brown skin are
not taken for age; of the tables, those of `GROUPS_ON_FACES` are kept.

Legend: H heads, K traits of all groups, T of those kept, N anchors, M those on faces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.edit.complexion import Complexion
from headlift.model.edit.style import StyleModel
from headlift.model.template import Region, Template
from headlift_trainer.editing.words import GROUPS, Record, values_of

# The mean of all made-up heads is hardly made up, as each is so in another way. Edits go as far as a marked case does:
# logits between two traits of a group where they differ most, set by eye.
GROUPS_ON_FACES = {"sex": 0.7, "age": 0.7, "make-up": 1.0}
_FACES = (Region.FACE, Region.EYE, Region.MOUTH)
_RIDGE = 8.0  # heads
_READ_RIDGE = 0.01  # of the traits' mean energy
_EDGE = 0.03
_CHUNK = 4096  # anchors at a time
_MOST = 0.999  # share of the anchors that stay below that strength


def require_targets(seeds: Sequence[int], folder: Path) -> None:
    """InvalidInputError unless the folder holds the anchor targets of these heads."""
    missing = sorted({seed for seed in seeds if not (folder / f"{seed:06d}.npz").is_file()})
    if missing:
        raise InvalidInputError(
            f"{folder.name} has no anchor targets of {len(missing)} of the heads, such as {missing[0]}; "
            "take the folder that belongs to these heads, or leave --targets out.",
            field="targets",
        )


def empty_complexion(style: StyleModel, anchors: int) -> Complexion:
    """Tables for the kept traits of a small CLIP, with what reads them off looks; colours are not filled."""
    rows = kept_rows(style)
    complexion = Complexion(len(rows), anchors, style.config.dim)
    places = style.traits.double()
    gram = places @ places.T
    gram += _READ_RIDGE * gram.diagonal().mean().clamp_min(1e-6) * torch.eye(len(gram), dtype=gram.dtype)
    complexion.readout.copy_(torch.linalg.solve(gram, places)[rows])
    return complexion


def kept_rows(style: StyleModel) -> list[int]:
    """Rows of the kept traits among a small CLIP's."""
    return [row for row, (group, _, _) in enumerate(style.vocabulary.traits) if group in GROUPS_ON_FACES]


@torch.no_grad()
def fit_complexion(
    style: StyleModel, template: Template, seeds: Sequence[int], records: Sequence[Record], targets: Path
) -> tuple[Complexion, float]:
    """The tables of a small CLIP's traits.

    Args:
        style: With its traits fitted. template: Of the targets.
        seeds: Of the heads; one that comes again comes in its next appearance. records: What is true of them.
        targets: Folder of anchor targets.

    Returns:
        The tables, and their root mean square before they are brought to the strength of a marked case, in logits.

    Raises:
        InvalidInputError: Targets of a head are missing.
    """
    faces = torch.isin(template.regions, torch.tensor([int(r) for r in _FACES])).nonzero()[:, 0]
    there, rows = _traits(records)
    colors, seen = _targets(seeds, targets, faces.numpy())
    # How bright a face is lies in the light and in the skin; what is fitted is the pattern.
    brightness = torch.stack([_logits(c).mean(0) for c in colors])  # [H, 3]
    found = torch.zeros(len(rows), len(faces), 3)
    for start in range(0, len(faces), _CHUNK):
        part = slice(start, start + _CHUNK)
        pattern = _logits(colors[:, part]) - brightness[:, None]
        weight = seen[:, part, None].float() / 255
        mean = (weight * pattern).sum(0) / weight.sum(0).clamp_min(1)
        found[:, part] = _effects(there, (weight * (pattern - mean)).flatten(1)).reshape(len(rows), -1, 3)
    complexion = empty_complexion(style, len(template.anchors))
    counts = there.sum(0)
    for group in GROUPS_ON_FACES:
        own = [row for row, (name, _) in enumerate(rows) if name == group]
        found[own] -= torch.einsum("t,tmc->mc", counts[own] / counts[own].sum().clamp_min(1), found[own])
    kept = [rows.index((group, value)) for group, value, _ in (style.vocabulary.traits[r] for r in kept_rows(style))]
    complexion.colors[:, faces] = found[kept]
    # Faces are symmetric, light is not: what one half says and the other does not is chance.
    complexion.colors.copy_((complexion.colors + complexion.colors[:, template.mirror]) / 2)
    strength = float(complexion.colors[:, faces].square().mean().sqrt())
    groups = [style.vocabulary.traits[row][0] for row in kept_rows(style)]
    for group, marked in GROUPS_ON_FACES.items():
        members = torch.tensor([other == group for other in groups])
        tables = complexion.colors[members][:, faces]
        apart = (tables[:, None] - tables[None]).abs().flatten().sort().values
        complexion.colors[members] *= marked / max(float(apart[int(_MOST * len(apart))]), 1e-3)
    return complexion, strength


def _effects(there: Tensor, values: Tensor) -> Tensor:
    """Ridge regression of centred values [H, X] on traits [H, K], shrunk where chance would do as well: [K, X]."""
    centred = there - there.mean(0)
    gram = centred.T @ centred + _RIDGE * torch.eye(there.shape[1])
    inverse = torch.linalg.inv(gram)
    effects = inverse @ (centred.T @ values)
    left = (values - centred @ effects).square().sum(0) / max(1, len(values) - there.shape[1])
    error = inverse.diagonal()[:, None] * left  # variance of each effect
    shrunk: Tensor = effects * effects.square() / (effects.square() + error).clamp_min(1e-12)
    return shrunk


def _traits(records: Sequence[Record]) -> tuple[Tensor, list[tuple[str, str]]]:
    """Which traits each head has, [H, K], and their names."""
    rows = [(group, value) for group, ways in GROUPS.items() for value in ways]
    there = torch.zeros(len(records), len(rows))
    for head, record in enumerate(records):
        for named in values_of(record).items():
            there[head, rows.index(named)] = 1
    return there, rows


def _targets(seeds: Sequence[int], folder: Path, faces: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Colours [H, M, 3] of face anchors, and how well each was seen [H, M]; uint8."""
    colors = torch.zeros(len(seeds), len(faces), 3, dtype=torch.uint8)
    seen = torch.zeros(len(seeds), len(faces), dtype=torch.uint8)
    require_targets(seeds, folder)
    appearances: Counter[int] = Counter()
    for head, seed in enumerate(seeds):
        with np.load(folder / f"{seed:06d}.npz") as target:
            colors[head] = torch.from_numpy(target["colors"][appearances[seed]][faces])
            seen[head] = torch.from_numpy(target["seen"][appearances[seed]][faces])
        appearances[seed] += 1
    return colors, seen


def _logits(colors: Tensor) -> Tensor:
    return (colors.float() / 255).clamp(_EDGE, 1 - _EDGE).logit()
