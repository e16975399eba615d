"""Frames: a conversion is exact, undoes itself, and moves the covariance as it moves the points."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from headlift.errors import FormatError
from headlift.formats.axes import (
    FRAMES,
    Frame,
    convert_means,
    convert_quats,
    describe_frame,
    parse_frame,
    signs_between,
)

PAIRS = list(itertools.product(FRAMES, FRAMES))


def random_quats(n: int) -> np.ndarray:
    quats = np.random.default_rng(1).normal(size=(n, 4))
    return (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_there_and_back_is_the_identity_bit_for_bit(source: Frame, target: Frame) -> None:
    means, quats = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32), random_quats(50)
    assert np.array_equal(convert_means(convert_means(means, source, target), target, source), means)
    assert np.array_equal(convert_quats(convert_quats(quats, source, target), target, source), quats)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_gaussians_covariance_turns_with_its_points(source: Frame, target: Frame) -> None:
    quats, variances = random_quats(20), np.diag([1.0, 4.0, 9.0])
    flip = np.diag(signs_between(source, target))

    def covariance(wxyz: np.ndarray) -> np.ndarray:
        turn = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).as_matrix()
        return turn @ variances @ turn.transpose(0, 2, 1)

    assert np.allclose(covariance(convert_quats(quats, source, target)), flip @ covariance(quats) @ flip, atol=1e-5)


def test_the_two_quaternions_of_one_rotation_stay_one_rotation() -> None:
    quats = random_quats(20)
    for source, target in PAIRS:
        assert np.array_equal(convert_quats(-quats, source, target), -convert_quats(quats, source, target))


def test_three_conversions_around_come_back() -> None:
    means = np.array([[1.0, 2.0, 3.0]], np.float32)
    for a, b, c in itertools.product(FRAMES, repeat=3):
        assert np.array_equal(convert_means(convert_means(convert_means(means, a, b), b, c), c, a), means)


def test_up_in_the_head_is_minus_y_in_a_ply_and_the_nose_points_at_the_viewer() -> None:
    up_and_nose = np.array([[0, 1, 0], [0, 0, 1]], np.float32)
    assert convert_means(up_and_nose, "RUB", "RDF").tolist() == [[0, -1, 0], [0, 0, -1]]


def test_a_frame_is_described_in_words_and_unknown_ones_are_refused() -> None:
    assert describe_frame("RDF") == "RDF: +X right, +Y down, +Z away from the viewer"
    with pytest.raises(FormatError, match="LDB"):
        parse_frame("XYZ")
