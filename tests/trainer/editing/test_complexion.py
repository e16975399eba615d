"""Fitting what age, sex and make-up leave on faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.edit.style import StyleConfig, StyleModel
from headlift.model.template import Region, Template
from headlift_trainer.editing.complexion import empty_complexion, fit_complexion, kept_rows
from headlift_trainer.editing.words import build_vocabulary

HEADS, HALF = 60, 64


@pytest.fixture
def template(reconstruction) -> Template:
    """Two mirrored halves of 64 anchors; the first 48 of each on the face, the others under hair."""
    half = torch.tensor([int(Region.FACE)] * 48 + [int(Region.HAIR)] * 16)
    anchors = torch.zeros(2 * HALF, 3)
    mirror = torch.arange(2 * HALF).roll(HALF)
    return replace(reconstruction.template, anchors=anchors, regions=torch.cat([half, half]), mirror=mirror)


def records() -> list[dict[str, object]]:
    """Heads of all ages; the old have darker skin than the young more often than not."""
    rng = np.random.default_rng(0)
    found: list[dict[str, object]] = []
    for _ in range(HEADS):
        years = int(rng.integers(20, 80))
        dark = rng.random() < (0.7 if years >= 60 else 0.3)
        albedo = [0.12, 0.1, 0.08] if dark else [0.5, 0.35, 0.3]
        found.append(
            {
                "maleness": float(rng.random()),
                "age_years": years,
                "makeup": "none",
                "hat": "none",
                "skin_albedo": albedo,
            }
        )
    return found


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """Wrinkles of the old at anchors 3 to 6 of both halves, light from one side, freckles at 20 in dark skin."""
    rng = np.random.default_rng(1)
    for seed, record in enumerate(records()):
        logits = np.zeros((2 * HALF, 3)) + rng.normal(0, 0.5) + rng.normal(0, 0.02, (2 * HALF, 3))
        logits[:HALF] += rng.normal(0, 0.3)  # lit from one side or the other
        if record["age_years"] >= 60:
            logits[3:7] -= 0.4
            logits[HALF + 3 : HALF + 7] -= 0.4
        if record["skin_albedo"][0] < 0.3:
            logits[[20, HALF + 20]] += 0.5
        colors = (255 / (1 + np.exp(-logits))).round().astype(np.uint8)
        seen = np.full((1, 2 * HALF), 255, np.uint8)
        np.savez(tmp_path / f"{seed:06d}.npz", colors=colors[None], seen=seen)
    return tmp_path


def test_age_is_told_from_what_goes_with_it(template: Template, targets: Path) -> None:
    style = StyleModel(StyleConfig(16, 32, 16, 1, 2), build_vocabulary(records()), 8)
    style.traits.normal_()
    complexion, strength = fit_complexion(style, template, range(HEADS), records(), targets)
    names = [style.vocabulary.traits[row][:2] for row in kept_rows(style)]
    assert {group for group, _ in names} == {"sex", "age", "make-up"}
    aged = complexion.colors[names.index(("age", "old"))] - complexion.colors[names.index(("age", "young"))]
    wrinkles = [*range(3, 7), *range(HALF + 3, HALF + 7)]
    others = [i for i in (*range(48), *range(HALF, HALF + 48)) if i not in wrinkles]
    assert float(aged[wrinkles].mean()) < -0.3
    assert float(aged[others].abs().mean()) < 0.15 * float(aged[wrinkles].abs().mean())
    assert float(aged[[20, HALF + 20]].abs().mean()) < 0.4 * float(aged[wrinkles].abs().mean())
    assert bool((complexion.colors[:, 48:HALF] == 0).all())  # hair
    torch.testing.assert_close(aged[:HALF], aged[HALF:])
    assert 0.01 < strength < 0.2
    made_up = complexion.colors[names.index(("make-up", "make-up"))]
    assert float(made_up.abs().max()) < 1e-6  # nobody wore any


def test_the_strongest_change_of_a_group_is_a_marked_one(template: Template, targets: Path) -> None:
    style = StyleModel(StyleConfig(16, 32, 16, 1, 2), build_vocabulary(records()), 8)
    complexion, _ = fit_complexion(style, template, range(HEADS), records(), targets)
    names = [style.vocabulary.traits[row][:2] for row in kept_rows(style)]
    ages = complexion.colors[[i for i, (group, _) in enumerate(names) if group == "age"]]
    apart = (ages[:, None] - ages[None]).abs()
    assert 0.6 < float(apart.max()) < 0.85


def test_a_trait_is_read_off_looks_and_not_mixed_up_with_another() -> None:
    style = StyleModel(StyleConfig(64, 32, 16, 1, 2), build_vocabulary(records()), 8)
    traits = style.vocabulary.traits
    style.traits.copy_(torch.randn(len(traits), 64, generator=torch.Generator().manual_seed(3)))
    rows = {trait[:2]: row for row, trait in enumerate(traits)}
    dark, pale = rows["skin", "dark"], rows["skin", "pale"]
    made_up, bare = rows["make-up", "make-up"], rows["make-up", "none"]
    style.traits[dark] += 0.7 * style.traits[made_up]  # they go together
    complexion = empty_complexion(style, 4)
    names = [traits[row][:2] for row in kept_rows(style)]
    paint = names.index(("make-up", "make-up"))
    wearing = complexion.readout @ (style.traits[made_up] - style.traits[bare])
    assert float(wearing[paint]) > 0.8
    assert float(wearing[names.index(("make-up", "none"))]) < -0.8
    darker = complexion.readout @ (style.traits[dark] - style.traits[pale])
    assert float(darker.abs().max()) < 0.15


def test_heads_without_targets_are_named(template: Template, targets: Path) -> None:
    style = StyleModel(StyleConfig(16, 32, 16, 1, 2), build_vocabulary(records()), 8)
    (targets / "000007.npz").unlink()
    with pytest.raises(InvalidInputError, match="1 of the heads, such as 7"):
        fit_complexion(style, template, range(HEADS), records(), targets)
