"""Tiny generated heads, in files as the generator and `prepare` write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint
from headlift.model.perchead.model import PercHead
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import target_path
from headlift_trainer.synthetic.render.views import RIG_DEG

SIZE = 48
HELD, TRAINED = (0, 1, 80_000), (100, 101, 102, 103)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> PercHead:
    """The network of random weights, with a head code that is not zero."""
    return load_checkpoint(tiny_checkpoint)[0]


@pytest.fixture(scope="session")
def shards(tiny_model: PercHead, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eggs of one colour each, held-out ones and training ones, with targets in the same folder."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    yaws, pitches = zip(*RIG_DEG, strict=True)
    cameras = orbit_cameras(list(yaws), list(pitches), width=SIZE, height=SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    disc = (np.hypot(x / (0.18 * SIZE), y / (0.25 * SIZE)) < 1).astype(np.uint8)
    template = tiny_model.template
    for seed in (*HELD, *TRAINED):
        color = rng.integers(60, 250, 3).astype(np.uint8)
        rgba = np.concatenate([disc[..., None] * color, disc[..., None] * 255], -1).astype(np.uint8)
        np.savez(
            path_of(folder, seed, 0),
            rgba=np.repeat(rgba[None], len(RIG_DEG), 0),
            viewmats=cameras.viewmats.numpy(),
            Ks=cameras.Ks.numpy(),
            attributes=np.array([json.dumps({"maleness": float(seed % 2), "beard": "none", "hair_style": "bob01"})]),
        )
        means = template.anchors.numpy() * rng.normal(1, 0.05, 3)
        np.savez(
            target_path(folder, seed),
            means=means.astype(np.float16),
            colors=np.broadcast_to(color, (1, len(means), 3)),
            seen=np.full((1, len(means)), 255, np.uint8),
            hair=np.full((1, len(means) // 16), 128, np.uint8),
            template=template.sha256,
        )
    return folder
