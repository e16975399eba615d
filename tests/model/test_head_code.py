"""The head code: means and bases in, colours that explain what is seen out."""

import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.mini.morphable import MorphableHead
from headlift.model.perchead.config import DecoderConfig


@pytest.fixture
def code() -> MorphableHead:
    config = DecoderConfig(num_patches=8, geometry_rank=3, color_rank=4)
    generator = torch.Generator().manual_seed(0)
    head = MorphableHead(config)
    head.fill(
        torch.randn(128, 3, generator=generator),
        torch.randn(3, 128, 3, generator=generator),
        torch.full((128, 3), 0.5),
        0.05 * torch.randn(4, 128, 3, generator=generator),
    )
    return head


def test_an_unfilled_code_is_grey_and_in_place() -> None:
    offsets, colors = MorphableHead(DecoderConfig(num_patches=2, geometry_rank=1, color_rank=1))(torch.randn(2, 2))
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
    config = DecoderConfig(
        num_patches=2, geometry_rank=1, color_rank=1, guidance="projected", code_doubt=1.0, hair_cover=True
    )
    code = MorphableHead(config)
    code.fill_hair(torch.tensor([0.5, 0.9]), torch.tensor([[0.25, 0.25]]))
    cover = code.hair(torch.tensor([[0.0, 0.0], [1.0, 5.0], [-4.0, 0.0]]))
    assert cover is not None
    assert torch.equal(cover, torch.tensor([[0.5, 0.9], [0.75, 1.0], [0.0, 0.0]]))


def test_a_code_that_does_not_tell_of_hair_says_so(code: MorphableHead) -> None:
    assert code.hair(torch.zeros(1, 7)) is None
    with pytest.raises(InvalidInputError, match="hair_cover"):
        code.fill_hair(torch.zeros(8), torch.zeros(3, 8))
