"""The built-in head is a closed, symmetric bust whose features are where FLAME's neutral head has them."""

import numpy as np
import pytest

from headlift_trainer.template import anatomy, builtin_head


@pytest.fixture(scope="module")
def vertices() -> np.ndarray:
    return builtin_head.head_mesh(0.004)[0]


def test_field_is_the_same_on_both_sides() -> None:
    points = np.random.default_rng(2).uniform([-0.2, -0.2, -0.12], [0.2, 0.14, 0.1], (4000, 3))
    flipped = points * [-1.0, 1.0, 1.0]
    assert np.array_equal(builtin_head.head_field(points), builtin_head.head_field(flipped))


def test_inside_is_negative_and_outside_positive() -> None:
    inside = [(0.0, 0.05, 0.0), (0.0, -0.12, -0.03), (0.1, -0.19, -0.04), (0.0, -0.07, 0.04)]
    outside = [(0.0, 0.16, 0.0), (0.0, 0.0, 0.12), (0.12, 0.0, 0.0), (0.0, -0.10, 0.06), (0.15, -0.10, 0.0)]
    assert (builtin_head.head_field(np.array(inside)) < 0).all()
    assert (builtin_head.head_field(np.array(outside)) > 0).all()


def test_field_is_near_the_true_distance_close_to_the_surface() -> None:
    vertices, _, normals = builtin_head.head_mesh(0.004)
    found = builtin_head.head_field(vertices + 1e-3 * normals)
    assert np.median(np.abs(found - 1e-3)) < 2e-4


def test_mesh_is_closed_above_the_cut() -> None:
    vertices, faces, _ = builtin_head.head_mesh(0.004)
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    pairs, count = np.unique(edges, axis=0, return_counts=True)
    rim = vertices[pairs[count == 1]].mean(1)
    assert ((rim[:, 0] < 0.004) | (rim[:, 1] < builtin_head.BOTTOM + 0.008)).all()


def test_snapped_points_lie_on_the_surface() -> None:
    vertices = builtin_head.head_mesh(0.004)[0]
    points, normals = builtin_head.snap(vertices)
    assert np.percentile(np.abs(builtin_head.head_field(points)), 99) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)


def test_average_adult_proportions(vertices: np.ndarray) -> None:
    skull = vertices[vertices[:, 1] > 0.055]
    assert 2 * skull[:, 0].max() == pytest.approx(0.152, abs=0.006)  # head breadth
    cheeks = vertices[(np.abs(vertices[:, 1] - 0.005) < 0.004) & (vertices[:, 2] > 0.01)]
    assert 2 * cheeks[:, 0].max() == pytest.approx(0.135, abs=0.008)  # bizygomatic breadth
    neck = vertices[np.abs(vertices[:, 1] + 0.09) < 0.004]
    assert 2 * neck[:, 0].max() == pytest.approx(0.115, abs=0.012)  # neck width


def test_features_are_where_the_canonical_frame_says(vertices: np.ndarray) -> None:
    middle = vertices[np.abs(vertices[:, 0]) < 0.006]
    nose = middle[middle[:, 2].argmax()]
    np.testing.assert_allclose(nose[1:], [-0.015, 0.090], atol=0.006)
    chin = middle[(middle[:, 1] < -0.070) & (middle[:, 1] > -0.090)]
    np.testing.assert_allclose(chin[chin[:, 2].argmax(), 1:], [-0.080, 0.060], atol=0.006)
    assert vertices[:, 1].max() == pytest.approx(0.135, abs=0.003)
    assert vertices[vertices[:, 1] > 0.0][:, 2].min() == pytest.approx(-0.100, abs=0.006)
    pupil = np.add([anatomy.EYE], [[0.0, 0.0, builtin_head.EYE_RADIUS]])
    assert abs(builtin_head.head_field(pupil)[0]) < 2e-4
