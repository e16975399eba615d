"""Implicit surfaces: distances near the surface, smooth blends, closed outward meshes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headlift_trainer.template import implicit

RNG = np.random.default_rng(0)


def sphere(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - [0.01, 0.0, 0.0], axis=1) - 0.05


def columns(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return points[:, 0], points[:, 1], points[:, 2]


def test_ellipsoid_with_equal_radii_is_the_distance_to_a_sphere() -> None:
    points = RNG.normal(size=(500, 3)) * 0.1
    found = implicit.ellipsoid(*columns(points), (0.01, 0.0, 0.0), (0.05, 0.05, 0.05))
    np.testing.assert_allclose(found, sphere(points), atol=1e-6)


def test_cone_with_equal_radii_is_the_distance_to_a_capsule() -> None:
    points = RNG.normal(size=(500, 3)) * 0.1
    found = implicit.cone(*columns(points), (0.0, -0.1, 0.0), (0.0, 0.1, 0.0), (0.02, 0.02))
    off = points - np.stack([0 * points[:, 0], np.clip(points[:, 1], -0.1, 0.1), 0 * points[:, 0]], axis=1)
    np.testing.assert_allclose(found, np.linalg.norm(off, axis=1) - 0.02, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(a=st.floats(-1, 1), b=st.floats(-1, 1), k=st.floats(1e-3, 0.5))
def test_smooth_union_stays_within_a_quarter_fillet_below_the_sharp_one(a: float, b: float, k: float) -> None:
    found = float(implicit.union(np.array([a]), np.array([b]), k)[0])
    assert min(a, b) - k / 4 - 1e-12 <= found <= min(a, b) + 1e-12
    carved = float(implicit.intersection(np.array([a]), np.array([b]), k)[0])
    assert max(a, b) - 1e-12 <= carved <= max(a, b) + k / 4 + 1e-12


def test_mesh_of_a_sphere_is_closed_outward_and_on_it() -> None:
    vertices, faces = implicit.mesh(sphere, (-0.06, -0.07, -0.07), (0.08, 0.07, 0.07), 0.004)
    assert np.abs(sphere(vertices)).max() < 4e-4
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = (a * np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=0.02)


def test_mesh_is_open_where_the_box_cuts_the_surface() -> None:
    vertices, faces = implicit.mesh(sphere, (-0.06, 0.0, -0.07), (0.08, 0.07, 0.07), 0.004)
    assert vertices[:, 1].min() >= 0.0
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 1).any()


def test_projection_lands_on_the_surface_with_its_normals() -> None:
    away = RNG.normal(size=(300, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    points, normals = implicit.project(sphere, [0.01, 0.0, 0.0] + away * (0.05 + RNG.uniform(-8e-4, 8e-4, (300, 1))))
    assert np.abs(sphere(points)).max() < 1e-6
    np.testing.assert_allclose(normals, away, atol=1e-3)


def test_projection_never_jumps_farther_than_its_reach() -> None:
    start = RNG.normal(size=(100, 3)) * 0.1
    points, _ = implicit.project(sphere, start, steps=3, reach=1e-3)
    assert np.linalg.norm(points - start, axis=1).max() <= 3e-3 + 1e-12
