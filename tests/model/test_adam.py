"""Our Adam against torch's."""

from __future__ import annotations

import torch

from headlift.model.adam import Adam


def test_it_steps_as_torch_does() -> None:
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(7, 3, generator=g, dtype=torch.float64), torch.randn(5, generator=g, dtype=torch.float64)]
    ours, theirs = ([t.clone().requires_grad_() for t in start] for _ in range(2))
    rates = [0.1, 0.02]
    adam = Adam(ours, rates)
    groups = [{"params": [p], "lr": rate} for p, rate in zip(theirs, rates, strict=True)]
    oracle = torch.optim.Adam(groups, betas=(0.9, 0.97), eps=1e-15)
    for step in range(12):
        share = 1.0 - 0.05 * step
        for group, rate in zip(oracle.param_groups, rates, strict=True):
            group["lr"] = share * rate
        for a, b in zip(ours, theirs, strict=True):
            a.grad = (a.detach() - 1) ** 3
            b.grad = (b.detach() - 1) ** 3
        adam.step(share)
        oracle.step()
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


def test_what_has_no_gradient_stays() -> None:
    parameter = torch.ones(3, requires_grad=True)
    adam = Adam([parameter], [0.1])
    parameter.grad = torch.ones(3)
    adam.clear()
    adam.step(1.0)
    assert torch.equal(parameter, torch.ones(3))


def test_in_single_precision_it_steps_as_torch_does_to_the_last_bit() -> None:
    start = torch.randn(46, generator=torch.Generator().manual_seed(1))
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    adam = Adam([ours], [0.3], betas=(0.8, 0.95), eps=1e-8)
    oracle = torch.optim.Adam([theirs], lr=0.3, betas=(0.8, 0.95))
    for _ in range(24):
        for parameter in (ours, theirs):
            parameter.grad = (parameter.detach() - 1) ** 3
        adam.step()
        oracle.step()
        assert torch.equal(ours, theirs)
