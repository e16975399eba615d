"""Quantisers: the error is at most half a step, the ends are exact."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headlift.formats.quantize import (
    box_of,
    dequantize_box,
    pack_smallest_three,
    quantize_box,
    quantize_unit,
    unpack_smallest_three,
)

PLANES = hnp.arrays(np.float32, (3, 6), elements=st.floats(-1e6, 1e6, width=32))


@given(PLANES)
@example(np.full((3, 6), 1.1754944e-38, np.float32) * (np.arange(6) > 0).astype(np.float32))
def test_the_box_quantiser_errs_by_half_a_step_at_most(planes: np.ndarray) -> None:
    box = box_of(planes)
    levels = quantize_box(planes, box, 65535)
    assert levels.min() >= 0
    assert levels.max() <= 65535
    half = (box[1].astype(float) - box[0]) / 65535 / 2
    # A box thinner than 2e-34 is flat: its factor would leave float32's range.
    room = half[:, None] * 1.02 + np.abs(planes).max() * 3e-7 + 2e-34
    assert (np.abs(dequantize_box(levels, box, 65535) - planes.astype(float)) <= room).all()


@given(
    hnp.arrays(np.float32, (4, 8), elements=st.floats(-1, 1, width=32)).filter(
        lambda q: np.linalg.norm(q, axis=0).min() > 0.1
    )
)
def test_smallest_three_keeps_the_rotation_of_any_quaternion(quats: np.ndarray) -> None:
    quats = quats / np.linalg.norm(quats, axis=0)
    back = unpack_smallest_three(pack_smallest_three(quats.astype(np.float32)))
    assert np.allclose(np.linalg.norm(back, axis=0), 1, atol=1e-5)
    assert (np.abs((back * quats).sum(0)) > 1 - 5e-5).all()
    assert np.array_equal(pack_smallest_three(-quats), pack_smallest_three(quats))


def test_quaternions_along_the_axes_are_exact() -> None:
    assert np.array_equal(np.abs(unpack_smallest_three(pack_smallest_three(np.eye(4, dtype=np.float32)))), np.eye(4))


def test_every_byte_unpacks_to_something_finite() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (4, 4096), np.uint8)
    assert np.isfinite(unpack_smallest_three(planes)).all()


def test_zero_and_one_are_exact() -> None:
    assert quantize_unit(np.array([0, 0.5, 1], np.float32)).tolist() == [0, 128, 255]
