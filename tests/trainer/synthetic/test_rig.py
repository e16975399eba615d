"""Making a rig: symmetry, lips, sunk eyeballs, quantisation."""

from __future__ import annotations

import numpy as np

from headlift.model.drive.rig import EXPRESSIONS, STORED
from headlift_trainer.synthetic.rig import eyeballs_sunk, lips_parted, made_symmetric, quantized, similarity

JAW = EXPRESSIONS.index("jawOpen")


def test_a_symmetric_basis_mirrors_left_into_right() -> None:
    rng = np.random.default_rng(0)
    mirror = np.array([1, 0, 3, 2])
    basis = made_symmetric(rng.normal(size=(53, 4, 3)).astype(np.float32), mirror)
    left, right = basis[EXPRESSIONS.index("eyeBlink_L")], basis[EXPRESSIONS.index("eyeBlink_R")]
    np.testing.assert_allclose(right, left[mirror] * [-1, 1, 1])


def test_anchors_between_the_lips_take_the_nearer_lip() -> None:
    points = np.array([[0, y, 0.06] for y in (-0.038, -0.0410, -0.0425, -0.046)])
    basis = np.zeros((53, 4, 3), np.float32)
    basis[JAW, :, 1] = (-0.001, -0.012, -0.015, -0.030)
    basis[JAW, -1, 1] = -0.030
    moved = lips_parted(basis, points)[JAW, :, 1]
    np.testing.assert_allclose(moved, [-0.001, -0.001, -0.030, -0.030])


def test_the_eyeball_sinks_under_its_own_lid_alone() -> None:
    points = np.array([[x + dx, 0.03, 0.06] for x in (0.03, -0.03) for dx in (-0.004, 0.004)])
    sunk = eyeballs_sunk(np.zeros((53, 4, 3), np.float32), points, np.ones(4, bool))
    left = sunk[EXPRESSIONS.index("eyeBlink_L")]
    np.testing.assert_allclose(np.linalg.norm(left[:2], axis=1), 0.0035, atol=1e-6)
    assert not left[2:].any()


def test_int8_steps_err_by_half_a_step() -> None:
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(53, 40, 3)).astype(np.float32) * 0.01
    steps, step = quantized(basis)
    back = steps.transpose(0, 2, 1) * step[:, None, None]
    chosen = basis[[EXPRESSIONS.index(name) for name in STORED]]
    assert (np.abs(back - chosen) <= 0.51 * step[:, None, None]).all()


def test_a_similarity_is_found() -> None:
    rng = np.random.default_rng(2)
    source = rng.normal(size=(20, 3))
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    scale, found, shift = similarity(source, 1.3 * source @ turn.T + [0.1, 0.2, 0.3])
    np.testing.assert_allclose(found, turn, atol=1e-9)
    np.testing.assert_allclose(scale, 1.3)
    np.testing.assert_allclose(shift, [0.1, 0.2, 0.3], atol=1e-9)
