"""The One Euro filter: steady at rest, quick in motion."""

from __future__ import annotations

import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.drive.smoothing import OneEuro


def test_it_takes_the_shaking_out_of_rest() -> None:
    gen = torch.Generator().manual_seed(0)
    noisy = 0.3 + 0.02 * torch.randn(120, 4, generator=gen)
    smooth_signal = OneEuro()
    smoothed = torch.stack([smooth_signal(value, i / 30) for i, value in enumerate(noisy)])
    assert float(smoothed[30:].std(0).max()) < 0.5 * float(noisy[30:].std(0).min())


def test_a_blink_of_four_frames_keeps_nine_tenths_of_its_height() -> None:
    blink = [0.0] * 15 + [0.6, 1.0, 1.0, 0.6] + [0.0] * 10
    smooth_signal = OneEuro()
    seen = [float(smooth_signal(torch.tensor([value]), i / 30)) for i, value in enumerate(blink)]
    assert max(seen) >= 0.9


def test_old_frames_change_nothing() -> None:
    smooth_signal = OneEuro()
    smooth_signal(torch.tensor([0.2]), 1.0)
    assert float(smooth_signal(torch.tensor([0.9]), 0.5)) == pytest.approx(0.2)


def test_two_streams_have_two_filters() -> None:
    one, other = OneEuro(), OneEuro()
    one(torch.tensor([1.0]), 0.0)
    assert float(other(torch.tensor([0.0]), 0.0)) == 0.0


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="above 0"):
        OneEuro(min_cutoff_hz=0.0)
