"""Sharpening keeps sizes, starts as the identity and can sharpen."""

from __future__ import annotations

import pytest
import torch

from headlift.model.perchead.config import SharpenerConfig
from headlift.model.perchead.sharpener import Sharpener, gaussian_kernel

SMALL = {"channels": 8, "depth": 2, "blur_sigma": 1.0}


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 32), (33, 3)])
def test_an_untrained_sharpener_returns_its_input_at_any_size(unshuffle: int, size: tuple[int, int]) -> None:
    pictures = torch.rand(2, 3, *size)
    assert torch.equal(Sharpener(SharpenerConfig(**SMALL, unshuffle=unshuffle))(pictures), pictures)  # type: ignore[arg-type]


def test_output_is_the_blurred_picture_minus_a_residual_as_in_the_paper() -> None:
    torch.manual_seed(0)
    net = Sharpener(SharpenerConfig(**SMALL))  # type: ignore[arg-type]
    torch.nn.init.normal_(net.last.weight)
    pictures = torch.rand(1, 3, 12, 12)
    seen: list[torch.Tensor] = []
    net.last.register_forward_hook(lambda _m, _i, out: seen.append(out))
    out, blurred = net(pictures), net.blur(pictures)
    residual = seen[0] - (pictures - blurred)
    torch.testing.assert_close(out, blurred - residual)


def test_blur_keeps_flat_pictures_and_the_mean() -> None:
    net = Sharpener(SharpenerConfig(**SMALL))  # type: ignore[arg-type]
    torch.testing.assert_close(net.blur(torch.full((1, 3, 9, 9), 0.7)), torch.full((1, 3, 9, 9), 0.7))
    spot = torch.zeros(1, 3, 21, 21)
    spot[..., 10, 10] = 1
    blurred = net.blur(spot)
    assert float(blurred.sum()) == pytest.approx(3, abs=1e-4)
    torch.testing.assert_close(blurred, blurred.mT)


def test_kernel_is_normalised_symmetric_and_three_sigma_wide() -> None:
    taps = gaussian_kernel(1.5)
    assert len(taps) == 11
    assert float(taps.sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(taps, taps.flip(0))


def test_it_learns_to_undo_a_blur() -> None:
    torch.manual_seed(0)
    net = Sharpener(SharpenerConfig(**SMALL, unshuffle=2))  # type: ignore[arg-type]
    sharp = (torch.rand(4, 3, 32, 32) > 0.5).float()
    soft = net.blur(sharp)
    before = (soft - sharp).abs().mean()
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(60):
        loss = (net(soft) - sharp).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.8 * float(before.detach())
