"""The linear head code is the least-squares low-rank code."""

import torch

from headlift_trainer.head_code import fit_linear_code


def low_rank_heads(count: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(rank, 50, 3, generator=generator)
    return 2 + torch.einsum("mk,knc->mnc", torch.randn(count, rank, generator=generator), directions)


def test_a_code_of_full_rank_reproduces_its_heads() -> None:
    heads = low_rank_heads(30, 4)
    code = fit_linear_code(heads, 4, block=37)
    assert torch.allclose(code.expand(code.project(heads)), heads, atol=1e-3)


def test_codes_of_the_training_heads_have_unit_variance_and_no_correlation() -> None:
    heads = low_rank_heads(200, 5)
    codes = fit_linear_code(heads, 3).project(heads)
    assert torch.allclose(codes.T @ codes / len(codes), torch.eye(3), atol=1e-3)


def test_components_are_ordered_by_what_they_explain() -> None:
    energy = fit_linear_code(low_rank_heads(60, 6), 6).basis.flatten(1).norm(dim=1)
    assert bool((energy.diff() <= 1e-4).all())


def test_integer_heads_give_the_same_code_as_float_heads() -> None:
    heads = (low_rank_heads(20, 3) * 20).clamp(0, 255).byte()
    a, b = fit_linear_code(heads, 3), fit_linear_code(heads.float(), 3)
    assert torch.allclose(a.mean, b.mean)
    assert torch.allclose(a.expand(a.project(heads.float())), b.expand(b.project(heads.float())), atol=1e-2)
