"""Clouds that the format tests share, and other people's tools from npm."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.model.types import Gaussians

NPM = Path(__file__).parent / "npm"


def _gaussians(*arrays: np.ndarray) -> Gaussians:
    return Gaussians(*(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays))


@pytest.fixture(scope="session")
def bust() -> Callable[[int], Gaussians]:
    """A closed, head-sized surface of discs that lie along it, smoothly coloured with some grain."""

    def make(n: int) -> Gaussians:
        rng = np.random.default_rng(7)
        turn = np.arange(n) + 0.5
        polar, around = np.arccos(1 - 2 * turn / n), np.pi * (1 + 5**0.5) * turn
        unit = np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], 1)
        radii = np.array([0.078, 0.115, 0.098])
        means = unit * radii * (1 + 0.03 * np.sin(9 * unit[:, :1]) * np.cos(7 * unit[:, 1:2]))
        normals = unit / radii / np.linalg.norm(unit / radii, axis=1, keepdims=True)
        quats = np.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], 0 * around], 1)  # +Z onto the normal
        quats /= np.linalg.norm(quats, axis=1, keepdims=True)
        scales = np.exp(rng.normal(np.log(1e-3), 0.25, (n, 3))) * [1, 1, 0.15]
        waves = np.sin(np.stack([20 * means[:, 0] + 1, 25 * means[:, 1], 30 * means[:, 2] + 9 * means[:, 0]], 1))
        colors = np.clip(0.5 + 0.4 * waves + rng.normal(0, 0.03, (n, 3)), 0, 1)
        order = rng.permutation(n)  # no help for compressors from the order of the spiral
        return _gaussians(*(a[order] for a in (means, quats, scales, rng.beta(8, 1.5, n), colors)))

    return make


@pytest.fixture(scope="session")
def extremes() -> Gaussians:
    """Values at the ends of every range: opacity 0 and 1, scale 0, black, white, every largest quaternion component."""
    quats = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1], [0.5, -0.5, 0.5, -0.5], [-0.5, -0.5, -0.5, -0.5]]
    scales = [[0, 0, 0], [1e-3, 0, 1e-3], [0.1, 0.1, 0.1], [1e-5, 1e-3, 1e-4], [1e-3, 2e-3, 3e-3], [0.02, 1e-3, 1e-3]]
    means = [[0, 0, 0], [-0.2, 0.1, 0.3], [0.2, 0.2, 0.2], [-1e-7, 1e-7, 0], [0.05, -0.3, 0.01], [0.1, 0, -0.1]]
    colors = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, 0.75]]
    return _gaussians(*(np.array(a, float) for a in (means, quats, scales, [0, 1, 0.5, 1e-4, 0.9999, 0.25], colors)))


@pytest.fixture(scope="session")
def node() -> str:
    """Path of node, with the packages installed as locked."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if not found or not npm:
        pytest.skip("node and npm are not installed; the checks against other people's tools need them")
    state = hashlib.sha256((NPM / "package-lock.json").read_bytes()).hexdigest()
    stamp = NPM / "node_modules" / ".headlift-lock"
    with Path(tempfile.gettempdir(), "headlift-format-checks.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != state:
            done = subprocess.run([npm, "ci"], cwd=NPM, capture_output=True, text=True, timeout=280, check=False)
            assert done.returncode == 0, f"npm ci failed: {done.stderr[-2000:]}"
            stamp.write_text(state)
    return found
