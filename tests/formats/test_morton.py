"""Order along the Z curve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headlift.formats.morton import morton_order
from headlift.model.types import Gaussians


def test_a_grid_is_walked_x_first_then_y_then_z() -> None:
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.float32)
    shuffled = np.random.default_rng(0).permutation(8)
    assert np.array_equal(corners[shuffled][morton_order(corners[shuffled])], corners)


def test_cells_of_all_sizes_are_contiguous() -> None:
    """The 64 points of a 4 x 4 x 4 grid: every aligned run of 8 is a cube of side 2."""
    axis = np.arange(4)
    points = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3).astype(np.float32)
    sorted_points = points[morton_order(points)].reshape(8, 8, 3)
    assert np.array_equal(np.ptp(sorted_points, axis=1), np.ones((8, 3)))


def test_flat_clouds_and_equal_points_keep_their_order() -> None:
    assert morton_order(np.zeros((5, 3), np.float32)).tolist() == [0, 1, 2, 3, 4]
    flat = np.array([[3, 7, 0], [1, 7, 0], [2, 7, 0]], np.float32)
    assert morton_order(flat).tolist() == [1, 2, 0]


def test_neighbours_in_the_order_are_neighbours_in_space(bust: Callable[[int], Gaussians]) -> None:
    means = bust(4096).means.numpy()
    step = np.linalg.norm(np.diff(means[morton_order(means)], axis=0), axis=1)
    assert np.median(step) < 0.1 * np.median(np.linalg.norm(np.diff(means, axis=0), axis=1))
