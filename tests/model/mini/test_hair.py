"""Strands on hidden hair."""

import pytest
import torch

from headlift.model.mini.hair import at_height_and_side, hair_contrast, hair_grain, height_and_side
from headlift.model.mini.parsing_groups import ParsingGroup
from headlift.model.types import HEAD_CENTER


@pytest.fixture(scope="module")
def shell():
    """Points on a sphere around the head's middle, all but the lowest of them hairy."""
    generator = torch.Generator().manual_seed(0)
    way = torch.nn.functional.normalize(torch.randn(20_000, 3, generator=generator), dim=-1)
    points = 0.1 * way + torch.tensor(HEAD_CENTER)
    return points, (way[:, 1:2] > -0.7).float()


def test_the_pattern_has_unit_variance_on_hair(shell):
    points, hairy = shell
    grain = hair_grain(points, hairy)
    on_hair = grain[hairy[:, 0] > 0]
    assert abs(float(on_hair.mean())) < 1e-3
    assert float(on_hair.square().mean()) == pytest.approx(1.0, abs=1e-3)


def test_the_pattern_is_the_same_every_time(shell):
    assert torch.equal(hair_grain(*shell), hair_grain(*shell))


def test_strands_run_from_the_crown_downwards():
    """Two points of one strand are more alike than two points equally far apart across strands."""
    height = torch.zeros(2000)
    around = torch.linspace(0, 2 * torch.pi, 2001)[:-1]

    def place(turn, drop):
        # about the vertical axis, which the crown's direction leans from by little; at the back, where both agree best
        ring = 0.1 * torch.stack([torch.sin(turn), torch.zeros_like(turn), -torch.cos(turn)], -1)
        return ring + torch.tensor(HEAD_CENTER) - torch.stack([height, drop, height], -1)

    back = around[(around < 0.6) | (around > 2 * torch.pi - 0.6)]
    height = torch.zeros(len(back))
    here, below = place(back, height), place(back, height + 0.006)
    beside = place(back + 0.06, height)
    points = torch.cat([here, below, beside])
    grain = hair_grain(points, torch.ones(len(points), 1)).reshape(3, -1)
    assert (grain[0] - grain[1]).abs().mean() < 0.6 * (grain[0] - grain[2]).abs().mean()


def test_there_is_no_seam_where_the_circle_closes():
    turn = torch.linspace(-0.02, 0.02, 81) + torch.pi
    ring = 0.1 * torch.stack([torch.cos(turn), torch.sin(turn) * 0.39, torch.sin(turn) * 0.92], -1)
    grain = hair_grain(ring + torch.tensor(HEAD_CENTER), torch.ones(81, 1))[:, 0]
    assert grain.diff().abs().max() < 0.35 * (grain.max() - grain.min()).clamp_min(1.0)


def test_hidden_hair_follows_what_is_seen_at_its_height_and_on_its_side_first():
    """The left half's front is redder than expected above and bluer below; nothing of it is seen under the chin."""
    front = torch.stack([torch.full((400,), 0.05), torch.linspace(-0.05, 0.15, 400), torch.full((400,), 0.05)], 1)
    anchors = torch.cat([front, front * torch.tensor([1.0, 1.0, -1.0]), front * torch.tensor([-1.0, 1.0, -1.0])])
    below = torch.tensor([[0.05, -0.28, -0.05]])
    places, rows = height_and_side(torch.cat([anchors, below])), torch.arange(400)
    seen = torch.zeros(1, 400, 3)
    seen[0, :, 0], seen[0, :, 2] = (front[:, 1] > 0.05) * 0.2, (front[:, 1] <= 0.05) * 0.2
    found = at_height_and_side(seen, torch.ones(1, 400, 1), places, rows)[0]
    same, other = found[400:800], found[800:1200]
    assert same[-1, 0] > 0.15 > 0.02 > same[-1, 2].abs()
    assert same[0, 2] > 0.15 > 0.02 > same[0, 0].abs()
    assert 0 < other[-1, 0] < same[-1, 0]
    assert float(found[-1].abs().max()) < 1e-6


def striped(contrast, period=4, side=96):
    """A picture of hair in vertical stripes, and its parsing."""
    stripes = (torch.arange(side) // (period // 2) % 2).float() * 2 - 1
    rgb = 0.4 + contrast * stripes.expand(1, 3, side, side) * torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    shown = torch.zeros(1, len(ParsingGroup), side // 2, side // 2)
    shown[:, ParsingGroup.HAIR] = 1
    return torch.cat([rgb, torch.ones(1, 1, side, side)], 1), shown


def test_contrast_is_that_of_the_visible_strands():
    weak, strong = (hair_contrast(*striped(c))[0] for c in (0.05, 0.1))
    torch.testing.assert_close(strong, 0.1 * torch.tensor([1.0, 0.5, 0.25]), rtol=0.15, atol=0)
    torch.testing.assert_close(weak * 2, strong, rtol=0.01, atol=0)


def test_flat_hair_and_no_hair_have_no_contrast():
    pixels, shown = striped(0.0)
    assert float(hair_contrast(pixels, shown).abs().max()) < 1e-3
    pixels, shown = striped(0.1)
    assert float(hair_contrast(pixels, torch.zeros_like(shown)).abs().max()) < 1e-6
