"""Smooth steps and smooth noise."""

import numpy as np
import pytest

from headlift_trainer.synthetic.noise import smooth_noise, smoothstep


def test_smoothstep_rises_falls_and_clips():
    x = np.linspace(-1, 2, 50, dtype=np.float32)
    rising, falling = smoothstep(0, 1, x), smoothstep(1, 0, x)
    assert (np.diff(rising) >= 0).all()
    assert np.allclose(rising + falling, 1, atol=1e-6)
    assert rising[0] == 0
    assert rising[-1] == 1


def test_smooth_noise_is_centred_and_smooth():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (20_000, 3)).astype(np.float32)
    noise = smooth_noise(points, 20.0, np.random.default_rng(1))
    near = smooth_noise(points + np.float32(1e-3), 20.0, np.random.default_rng(1))
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.15)
    assert np.abs(noise - near).max() < 0.3
