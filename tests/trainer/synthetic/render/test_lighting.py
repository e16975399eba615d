"""Spherical harmonics and random light."""

import numpy as np
import pytest

from headlift_trainer.synthetic.render.lighting import random_light, sh_basis, sphere_directions


def test_directions_are_unit_and_balanced():
    directions = sphere_directions(512)
    assert np.allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-5)
    assert np.abs(directions.mean(0)).max() < 0.01


def test_the_harmonics_are_orthonormal():
    basis = sh_basis(sphere_directions(20_000)).astype(np.float64)
    gram = 4 * np.pi / len(basis) * basis.T @ basis
    assert np.allclose(gram, np.eye(9), atol=2e-3)


@pytest.mark.parametrize("seed", range(20))
def test_a_random_light_is_positive_and_repeatable(seed):
    light = random_light(np.random.default_rng(seed))
    again = random_light(np.random.default_rng(seed))
    assert np.array_equal(light.sh, again.sh)
    assert np.array_equal(light.key_color, again.key_color)
    assert (light.sh[0] > 0).all()
    assert (light.key_color > 0).all()
    assert np.allclose(np.linalg.norm(light.key_direction, axis=1), 1, atol=1e-5)


def test_scaling_and_tinting_are_linear():
    light = random_light(np.random.default_rng(0))
    assert np.allclose(light.scaled(2.0).sh, 2 * light.sh)
    assert np.allclose(light.tinted(np.array([1, 2, 3], np.float32)).key_color, light.key_color * [1, 2, 3])
