"""Smooth steps and smooth noise: what the shapes and colours of the generator vary with."""

from __future__ import annotations

import numpy as np

from headlift_trainer.synthetic.arrays import Floats, Numbers


def smoothstep(low: float, high: float, x: Numbers) -> Floats:
    """0 below `low`, 1 above `high`, a smooth cubic between; falling if low > high."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def smooth_noise(points: Numbers, frequency: float, rng: np.random.Generator, waves: int = 7) -> Floats:
    """Smooth noise at points [N, 3] m, mean 0, deviation about 1: plane waves of about this frequency (rad/m)."""
    directions = rng.normal(size=(waves, 3)) * frequency
    phases = rng.uniform(0, 2 * np.pi, waves)
    return np.asarray(np.sin(points @ directions.T + phases).sum(1) * np.sqrt(2 / waves), np.float32)
