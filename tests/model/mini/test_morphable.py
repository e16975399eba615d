"""The head code: means and bases in, colours that explain what is seen out."""

import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.mini.morphable import MorphableHead


@pytest.fixture
def code() -> MorphableHead:
    generator = torch.Generator().manual_seed(0)
    head = MorphableHead(3, 4, torch.zeros(8), 128)
    head.fill(
        torch.randn(128, 3, generator=generator),
        torch.randn(3, 128, 3, generator=generator),
        torch.full((128, 3), 0.5),
        0.05 * torch.randn(4, 128, 3, generator=generator),
    )
    return head


def test_an_unfilled_code_is_grey_and_in_place() -> None:
    head, code = MorphableHead(1, 1, torch.zeros(2), 32), torch.randn(2, 2)
    offsets, colors = head.offsets(code), head.colors(code)
    assert float(offsets.abs().max()) == 0
    assert bool((colors == 0.5).all())


def test_the_correction_recovers_a_code_from_half_of_the_head(code: MorphableHead) -> None:
    truth = torch.tensor([[0.5, -1.0, 0.3, 0.8]])
    rows = torch.arange(0, 64)
    seen = torch.einsum("bk,knc->bnc", truth, code.color_basis[:, rows])
    change = code.color_correction(rows, seen, torch.ones(1, 64, 1), 1e-6)
    assert torch.allclose(change, truth, atol=1e-3)


def test_what_is_not_believed_changes_nothing(code: MorphableHead) -> None:
    rows = torch.arange(128)
    change = code.color_correction(rows, torch.rand(2, 128, 3), torch.zeros(2, 128, 1), 3.0)
    assert float(change.abs().max()) == 0


def test_more_doubt_moves_the_code_less(code: MorphableHead) -> None:
    rows, residual, weight = torch.arange(128), 0.2 * torch.ones(1, 128, 3), torch.ones(1, 128, 1)
    moved = [float(code.color_correction(rows, residual, weight, doubt).norm()) for doubt in (0.01, 1.0, 100.0)]
    assert moved[0] > moved[1] > moved[2] > 0


def test_a_basis_of_the_wrong_shape_is_refused_by_name(code: MorphableHead) -> None:
    with pytest.raises(InvalidInputError, match="color_basis"):
        code.fill(torch.zeros(128, 3), torch.zeros(3, 128, 3), torch.zeros(128, 3), torch.zeros(4, 127, 3))


def test_how_far_hair_covers_follows_the_geometry_numbers_and_no_others() -> None:
    code = MorphableHead(1, 1, torch.zeros(2), 32)
    code.fill_hair(torch.tensor([0.5, 0.9]), torch.tensor([[0.25, 0.25]]))
    cover = code.hair_cover(torch.tensor([[0.0, 0.0], [1.0, 5.0], [-4.0, 0.0]]))
    assert torch.equal(cover, torch.tensor([[0.5, 0.9], [0.75, 1.0], [0.0, 0.0]]))


def test_until_filled_hair_covers_what_the_template_says_whatever_the_code() -> None:
    code = MorphableHead(1, 1, torch.tensor([0.0, 1.0]), 32)
    assert torch.equal(code.hair_cover(torch.randn(3, 2)), torch.tensor([[0.0, 1.0]] * 3))


def test_hair_of_the_wrong_shape_is_refused_by_name(code: MorphableHead) -> None:
    with pytest.raises(InvalidInputError, match="hair_basis"):
        code.fill_hair(torch.zeros(8), torch.zeros(2, 8))
