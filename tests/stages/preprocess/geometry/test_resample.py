"""Similarities and warps agree with each other and with analysis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headlift.stages.preprocess.geometry.resample import apply, compose, invert, scale_of, similarity, warp

coordinate = st.floats(-500, 500)
maps = st.builds(
    similarity,
    st.tuples(coordinate, coordinate),
    st.tuples(coordinate, coordinate),
    scale=st.floats(0.05, 20),
    turn_deg=st.floats(-180, 180),
)


@given(maps, st.tuples(coordinate, coordinate))
def test_a_point_maps_there_and_back(matrix, point):
    assert np.allclose(apply(invert(matrix), apply(matrix, point)), point, atol=1e-6)


@given(maps, maps, st.tuples(coordinate, coordinate))
def test_composition_is_one_map_after_the_other(outer, inner, point):
    assert np.allclose(apply(compose(outer, inner), point), apply(outer, apply(inner, point)), rtol=1e-9, atol=1e-6)


def test_a_quarter_turn_is_clockwise_on_the_screen():
    matrix = similarity((0, 0), (10, 10), scale=2.0, turn_deg=90.0)
    assert np.allclose(apply(matrix, (1, 0)), (10, 12))
    assert scale_of(matrix) == pytest.approx(2.0)


@pytest.mark.parametrize("scale", [0.13, 0.5, 0.97, 1.0, 2.7])
@pytest.mark.parametrize("turn", [0.0, 33.0, -120.0])
def test_warped_pixels_hold_the_value_of_the_place_they_came_from(scale, turn):
    side, size = 400, 48
    centres = np.arange(side, dtype=np.float32) + 0.5
    ramp = np.stack(np.meshgrid(centres, centres), -1)  # each pixel holds its own coordinates
    matrix = similarity((210.3, 190.8), (size / 2, size / 2), scale=scale, turn_deg=turn)
    seen = warp(ramp, matrix, (size, size))
    rows, columns = np.mgrid[:size, :size]
    source = apply(invert(matrix), np.stack([columns + 0.5, rows + 0.5], -1))
    inside = ((source > 10) & (source < side - 10)).all(-1)
    assert inside.mean() > 0.5
    assert np.abs(seen - source)[inside].max() < 0.12 / min(scale, 1.0)


def test_shrinking_averages_instead_of_aliasing():
    stripes = np.zeros((256, 256), np.float32)
    stripes[:, ::2] = 1.0
    seen = warp(stripes, similarity((0, 0), (0, 0), scale=0.23), (50, 50))
    assert np.abs(seen - 0.5).max() < 0.12


def test_outside_is_zero_or_the_border():
    white = np.full((20, 20, 3), 255, np.uint8)
    far = similarity((10, 10), (5, 5), scale=0.2)
    assert warp(white, far, (10, 10))[0, 0].tolist() == [0, 0, 0]
    assert warp(white, far, (10, 10), replicate=True).min() == 255
    away = similarity((-900, -900), (5, 5))
    assert warp(white, away, (10, 10)).max() == 0
