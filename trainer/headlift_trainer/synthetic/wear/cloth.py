"""Plain clothes: shells below a neckline."""

from __future__ import annotations

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.shells import Body, Shell, shell_part
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.classes import CLOTH
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.synthetic.render.compiled import KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part

_NECK_AXIS_Z = -0.05  # m

NECKLINES: dict[str, tuple[float, float, float]] = {
    # height at the front, side and back of the neck on the mean head, m
    "crew": (-0.150, -0.124, -0.106),
    "wide": (-0.175, -0.150, -0.125),
    "scoop": (-0.205, -0.140, -0.118),
    "vee": (-0.150, -0.122, -0.104),
    "shirt": (-0.128, -0.106, -0.094),
    "turtle": (-0.108, -0.084, -0.082),
}


def neckline_field(topology: Topology, style: str, rng: np.random.Generator) -> Floats:
    """[N] m, positive on skin that clothes of this style cover; smooth, so that the border is too."""
    x, y, z = topology.mean.T
    angle = np.arctan2(np.abs(x), z - _NECK_AXIS_Z)
    front, side, back = NECKLINES[style]
    line = np.interp(np.cos(angle), [-1.0, 0.0, 1.0], [back, side, front]) + rng.uniform(-0.008, 0.008)
    if style in ("vee", "shirt"):
        depth, width = rng.uniform(0.05, 0.09), np.radians(50 if style == "vee" else 38)
        line = line - depth * np.clip(1 - angle / width, 0, 1)
    return np.asarray(line - y, np.float32)


def cloth_part(body: Body, style: str, cover: Floats, rng: np.random.Generator, *, tight: bool = False) -> Part:
    """Clothes below a neckline: a lifted shell with folds and a raised collar; `tight` leaves room for a coat above."""
    thickness = rng.uniform(0.004, 0.009) if not tight else 0.004
    collar = {"shirt": 0.010, "turtle": 0.006}.get(style, 0.002)
    loose = 0.02 * smoothstep(0.0, 0.15, cover) * rng.uniform(0.0, 1.0) * (not tight)
    shell = Shell(
        "cloth",
        CLOTH,
        KIND_PLAIN,
        fade_width=0.001,
        refinements=2 if style in ("vee", "shirt") else 1,
        lump_size=rng.uniform(0.1, 0.35),
        lump_frequency=rng.uniform(25.0, 60.0),
        texture_scale=rng.uniform(6.0, 20.0),
        fine_border=0.012,
    )
    height = thickness + collar * smoothstep(0.035, 0.0, cover) + loose
    return shell_part(body, shell, cover, np.asarray(height, np.float32), rng)
