"""Activations and judgement of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headlift.errors import FormatError, InvalidGaussiansError
from headlift.formats.cloud import (
    MAX_GAUSSIANS,
    colors_from_sh,
    exp_scales,
    from_gaussians,
    log_scales,
    logits,
    sh_from_colors,
    sigmoids,
    to_gaussians,
    unit_quats,
)
from headlift.model.types import Gaussians

ANY_FLOATS = hnp.arrays(np.float32, (5,), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
UNIT_FLOATS = hnp.arrays(np.float32, (5,), elements=st.floats(0, 1, width=32))


@given(UNIT_FLOATS)
def test_opacities_survive_their_logits(values: np.ndarray) -> None:
    assert np.isfinite(logits(values)).all()
    assert np.allclose(sigmoids(logits(values)), values, rtol=0, atol=2e-7)


@given(UNIT_FLOATS)
def test_colors_survive_their_harmonics(values: np.ndarray) -> None:
    assert np.allclose(colors_from_sh(sh_from_colors(values)), values, rtol=0, atol=2e-7)


@given(ANY_FLOATS)
def test_activations_of_any_float_raise_no_warning_and_stay_in_range(values: np.ndarray) -> None:
    opacities, scales = sigmoids(values), exp_scales(values)
    assert ((opacities >= 0) & (opacities <= 1)).all()
    assert (scales >= 0).all()
    assert np.isfinite(log_scales(np.abs(values))).all()


@given(hnp.arrays(np.float32, (4, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_quaternions_of_any_length_become_unit_ones(quats: np.ndarray) -> None:
    assert np.allclose(np.linalg.norm(unit_quats(quats), axis=1), 1.0, atol=2e-5)


def test_unit_quaternions_pass_bit_for_bit_and_zero_is_the_identity() -> None:
    quats = np.array([[0.6, 0.8, 0, 0], [0, 0, 0, 0], [0, 0, 3, 0]], np.float32)
    assert unit_quats(quats).tolist() == [quats[0].tolist(), [1, 0, 0, 0], [0, 0, 1, 0]]


def test_the_tensors_read_share_no_memory_with_the_bytes(bust: Callable[[int], Gaussians]) -> None:
    cloud = from_gaussians(bust(10))
    read = to_gaussians(cloud, "test")
    read.means.zero_()
    assert np.abs(cloud.means).min() > 0 or not np.allclose(cloud.means, 0)


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_by_name(
    bust: Callable[[int], Gaussians], name: str, value: float
) -> None:
    cloud = from_gaussians(bust(10))
    broken = getattr(cloud, name).copy()
    broken.flat[3] = value
    with pytest.raises(FormatError, match=f"1 values of {name}"):
        to_gaussians(replace(cloud, **{name: broken}), "test")


def test_negative_scales_are_refused_and_overshooting_colors_clipped(bust: Callable[[int], Gaussians]) -> None:
    cloud = from_gaussians(bust(10))
    with pytest.raises(FormatError, match=">= 0"):
        to_gaussians(replace(cloud, scales=-cloud.scales), "test")
    assert to_gaussians(replace(cloud, colors=cloud.colors * 9 - 4), "test").validate()


def test_nothing_and_too_much_cannot_be_written(bust: Callable[[int], Gaussians]) -> None:
    none = bust(10)
    none = Gaussians(none.means[:0], none.quats[:0], none.scales[:0], none.opacities[:0], none.colors[:0])
    with pytest.raises(InvalidGaussiansError, match="0 Gaussians"):
        from_gaussians(none)
    many = torch.zeros(1).expand(MAX_GAUSSIANS + 1)
    with pytest.raises(InvalidGaussiansError, match="4,000,000"):
        from_gaussians(Gaussians(many[:, None].expand(-1, 3), many, many, many, many))
