"""Edits as differences: nothing changed is nothing touched, and what changed is what was meant."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from headlift.errors import InvalidInputError
from headlift.model.edit.difference import apply_difference
from headlift.model.types import Gaussians


def head(seed: int, n: int = 64) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return Gaussians(
        0.1 * uniform(n, 3), F.normalize(uniform(n, 4) - 0.5, dim=-1), 0.001 + 0.004 * uniform(n, 3),
        0.05 + 0.9 * uniform(n), 0.05 + 0.9 * uniform(n, 3),
    )  # fmt: skip


def test_no_difference_leaves_every_bit() -> None:
    parent, same = head(0), head(1)
    made = apply_difference(parent, same, same)
    for f in fields(Gaussians):
        if f.name != "quats":
            assert torch.equal(getattr(made, f.name), getattr(parent, f.name)), f.name
    assert torch.allclose(made.quats, parent.quats, atol=1e-6)


def test_the_difference_takes_before_to_after() -> None:
    before = head(1)
    after = replace(
        before, means=before.means + 0.01, scales=before.scales * 2, quats=head(2).quats,
        opacities=(before.opacities.logit() + 1).sigmoid(), colors=(before.colors.logit() + 1).sigmoid(),
    )  # fmt: skip
    made = apply_difference(before, before, after)
    assert torch.allclose(made.means, after.means, atol=1e-6)
    assert torch.allclose(made.scales, after.scales, rtol=1e-4)
    assert torch.allclose((made.quats * after.quats).sum(-1).abs(), torch.ones(64), atol=1e-4)
    assert torch.allclose(made.opacities, after.opacities, atol=1e-3)
    inside = (before.colors > 0.04) & (after.colors < 0.96)
    assert torch.allclose(made.colors[inside], after.colors[inside], atol=1e-3)


def test_a_whisper_is_noise_and_not_an_edit() -> None:
    parent, before = head(0), head(1)
    after = replace(before, means=before.means + 1e-4, colors=(before.colors + 0.005).clamp(0, 1))
    made = apply_difference(parent, before, after)
    assert torch.equal(made.means, parent.means)
    assert torch.equal(made.colors, parent.colors)


def test_only_what_differs_is_touched() -> None:
    parent, before = head(0), head(1)
    colors = before.colors.clone()
    colors[:8] = 1 - colors[:8]
    made = apply_difference(parent, before, replace(before, colors=colors))
    assert torch.equal(made.colors[8:], parent.colors[8:])
    assert not torch.equal(made.colors[:8], parent.colors[:8])


def test_shape_and_color_can_be_held() -> None:
    parent, before, after = head(0), head(1), head(2)
    recolored = apply_difference(parent, before, after, shape=False)
    assert recolored.means is parent.means
    assert recolored.opacities is parent.opacities
    reshaped = apply_difference(parent, before, after, color=False)
    assert reshaped.colors is parent.colors
    assert not torch.equal(reshaped.means, parent.means)


def test_what_turns_into_something_else_takes_its_color_and_what_is_dyed_keeps_its_grain() -> None:
    parent, before = head(0), head(1)
    dark = torch.full_like(before.colors, 0.2)
    red, pale = dark + torch.tensor([0.15, 0.0, 0.0]), torch.full_like(dark, 0.85)
    before = replace(before, colors=dark)

    def made(shift: float, colors: torch.Tensor, *, shape: bool = True) -> torch.Tensor:
        means = before.means + torch.tensor([0.0, 0.0, shift])
        return apply_difference(parent, before, replace(before, means=means, colors=colors), shape=shape).colors

    grain = made(0.0, red)
    torch.testing.assert_close(grain, (parent.colors.logit() + red.logit() - dark.logit()).sigmoid(), atol=0.02, rtol=0)
    torch.testing.assert_close(made(0.03, red), red)  # a collar that is now a lock
    torch.testing.assert_close(made(0.01, pale), pale)  # hair that is now a scalp
    assert torch.equal(made(0.0, pale), made(0.01, pale, shape=False))  # bleached, with its light and shade
    assert made(0.0, pale).std(0).min() > 3 * pale.std(0).max() + 0.01
    assert torch.equal(made(0.03, dark), parent.colors)  # it moved, and nobody spoke of its colour


def test_any_heads_give_a_valid_head() -> None:
    for seed in range(5):
        apply_difference(head(seed), head(seed + 10), head(seed + 20)).validate()
    black = replace(head(0), colors=torch.zeros(64, 3), opacities=torch.ones(64))
    white = replace(head(0), colors=torch.ones(64, 3), opacities=torch.zeros(64))
    apply_difference(black, black, white).validate()


def test_heads_of_other_networks_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="Gaussians") as caught:
        apply_difference(head(0, 32), head(1), head(2))
    assert caught.value.reason == "NOT_EDITABLE"
