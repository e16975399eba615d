"""What traits leave on a face."""

from __future__ import annotations

import pytest
import torch

from headlift.model.complexion import Complexion, recolored
from headlift.model.types import Gaussians


@pytest.fixture
def complexion() -> Complexion:
    """Young (0) and old (1), which darkens anchor 1 of four; bare (2) and made up (3), which shows at anchor 3."""
    made = Complexion((0, 0, 1, 1), 4, 3)
    made.look.copy_(torch.tensor([0.1, 0.2, 0.3]))
    made.places[0, 0], made.places[1, 0] = -1.0, 1.0
    made.places[2, 1], made.places[3, 1] = -0.5, 0.5
    made.colors[0, 1], made.colors[1, 1] = 0.5, -0.5
    made.colors[2, 3], made.colors[3, 3] = -0.25, 0.25
    return made


def head() -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    quats = torch.nn.functional.normalize(torch.randn(4, 4, generator=generator), dim=-1)
    return Gaussians(
        torch.randn(4, 3, generator=generator), quats, torch.full((4, 3), 0.01), torch.full((4,), 0.9),
        torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.4, 0.6], [0.9, 0.1, 0.3], [0.5, 0.5, 0.5]]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("place", "shares"),
    [
        ([-1.0, 0.0, 0.0], [1.0, 0.0, 0.5, 0.5]),
        ([1.0, 0.5, 9.0], [0.0, 1.0, 0.0, 1.0]),
        ([4.0, -3.0, 0.0], [0.0, 1.0, 1.0, 0.0]),  # past a trait's place it has no more of it
        ([0.5, 0.0, 0.0], [0.25, 0.75, 0.5, 0.5]),
    ],
)
def test_a_look_has_each_trait_as_far_as_it_lies_towards_it(
    complexion: Complexion, place: list[float], shares: list[float]
) -> None:
    found = complexion.shares(complexion.look + torch.tensor(place))
    torch.testing.assert_close(found, torch.tensor(shares), atol=1e-5, rtol=0)


def test_between_three_traits_no_look_has_more_than_all_of_them() -> None:
    made = Complexion((0, 0, 0), 1, 2)
    made.places.copy_(torch.tensor([[0.0, 1.0], [0.9, -0.5], [-0.9, -0.5]]))
    for place in torch.randn(20, 2, generator=torch.Generator().manual_seed(1)):
        shares = made.shares(place)
        assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
        assert bool((shares >= 0).all())


def test_growing_old_darkens_what_age_darkens_and_nothing_else(complexion: Complexion) -> None:
    young, old = (complexion.look + torch.tensor([x, 0.0, 0.0]) for x in (-1.0, 1.0))
    before = head()
    after = recolored(before, complexion.change(young, old))
    assert torch.equal(after.colors[[0, 2, 3]], before.colors[[0, 2, 3]])
    torch.testing.assert_close(after.colors[1].logit(), before.colors[1].logit() - 1.0)
    assert torch.equal(after.means, before.means)
    back = recolored(after, complexion.change(old, young))
    torch.testing.assert_close(back.colors, before.colors)


def test_a_head_without_a_before_is_told_from_the_mean(complexion: Complexion) -> None:
    change = complexion.change(None, complexion.look + torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(change[1], torch.full((3,), -0.5))
    torch.testing.assert_close(change[3], torch.zeros(3), atol=1e-6, rtol=0)


def test_black_and_white_stay_colours(complexion: Complexion) -> None:
    made = recolored(head(), torch.full((4, 3), 20.0))
    assert bool(torch.isfinite(made.colors).all())
    assert float(made.colors.max()) <= 1
