"""What traits leave on a face."""

from __future__ import annotations

import pytest
import torch

from headlift.model.edit.complexion import Complexion, recolored
from headlift.model.types import Gaussians

LOOK = torch.tensor([0.1, 0.2, 0.3])


@pytest.fixture
def complexion() -> Complexion:
    """Age, the first number of a style, darkens anchor 1 of four; make-up, the second, shows at anchor 3."""
    made = Complexion(2, 4, 3)
    made.readout[0, 0], made.readout[1, 1] = 0.5, 1.0
    made.colors[0, 1] = -0.8
    made.colors[1, 3] = torch.tensor([0.6, -0.3, 0.0])
    return made


def head() -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(4, 4, generator=generator), dim=-1)
    return Gaussians(
        torch.randn(4, 3, generator=generator), quats, torch.full((4, 3), 0.01), torch.full((4,), 0.9),
        torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.6], [0.9, 0.1, 0.3], [0.5, 0.5, 0.5]]),
    )  # fmt: skip


def test_growing_old_darkens_what_age_darkens_and_nothing_else(complexion: Complexion) -> None:
    before, older = head(), LOOK + torch.tensor([1.0, 0.0, 5.0])
    after = recolored(before, complexion.change(LOOK, older))
    assert torch.equal(after.colors[[0, 2, 3]], before.colors[[0, 2, 3]])
    torch.testing.assert_close(after.colors[1].logit(), before.colors[1].logit() - 0.4)
    assert torch.equal(after.means, before.means)
    back = recolored(after, complexion.change(older, LOOK))
    torch.testing.assert_close(back.colors, before.colors)


def test_nobody_has_more_than_all_of_a_trait(complexion: Complexion) -> None:
    change = complexion.change(LOOK, LOOK + torch.tensor([9.0, -9.0, 0.0]))
    torch.testing.assert_close(change[1], torch.full((3,), -0.8))
    torch.testing.assert_close(change[3], torch.tensor([-0.6, 0.3, 0.0]))


def test_the_same_look_changes_nothing(complexion: Complexion) -> None:
    before = head()
    assert torch.equal(recolored(before, complexion.change(LOOK, LOOK)).colors, before.colors)


def test_a_faint_change_is_faint_for_black_and_white_too() -> None:
    before = head()
    made = recolored(before, torch.full((4, 3), 1e-3))
    assert float((made.colors - before.colors).abs().max()) < 1e-3


def test_black_and_white_stay_colours() -> None:
    made = recolored(head(), torch.full((4, 3), 20.0))
    assert bool(torch.isfinite(made.colors).all())
    assert float(made.colors.max()) <= 1
