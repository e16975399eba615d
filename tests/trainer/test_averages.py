"""Averages of trained parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headlift_trainer.averages import averaged_model, filled


def averaged(values: list[float], power: float | None, decay: float = 0.999) -> float:
    """The average of a parameter that takes these values, the first of them before training."""
    parameter = nn.Parameter(torch.tensor([values[0]], dtype=torch.float64))
    averages = averaged_model([parameter], decay, power)
    for value in values[1:]:
        with torch.no_grad():
            parameter.fill_(value)
        averages.update_parameters(nn.ParameterList([parameter]))
    return float(next(averages.parameters()))


def test_at_power_zero_all_steps_count_the_same_the_start_too() -> None:
    values = [3.0, -1.0, 4.0, 1.5, 9.0, 2.5]
    assert averaged(values, 0.0) == pytest.approx(sum(values) / len(values), rel=1e-12)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_later_steps_count_as_a_power_of_their_number(power: float) -> None:
    """Of a parameter that grows evenly, the average lies where the mean of t ** power does."""
    steps = 2000
    values = [t / steps for t in range(steps + 1)]
    assert averaged(values, power) == pytest.approx((power + 1) / (power + 2), abs=2e-3)


def test_without_a_power_the_start_is_soon_forgotten() -> None:
    assert averaged([1.0] + [0.0] * 60, None) < 1e-6
    assert averaged([1.0] + [0.0] * 60, 0.0) == pytest.approx(1 / 61)


def test_other_values_are_there_within_the_block_alone() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    with filled([parameter], [torch.ones(2)]):
        assert parameter.tolist() == [1.0, 1.0]
    assert parameter.tolist() == [0.0, 0.0]
