"""What is worn or grown close to the skin, as shells: clothes, cropped and curly hair, beards."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.assets import Floats
from headlift_trainer.synthetic.compiled import KIND_HAIR, KIND_PLAIN
from headlift_trainer.synthetic.scene import Part
from headlift_trainer.synthetic.shells import Body, Shell, shell_part
from headlift_trainer.synthetic.topology import CLOTH, FACE, HAIR, Topology, smoothstep

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


def cropped_hair_part(body: Body, length: float, curl: float, hairline: Floats, rng: np.random.Generator) -> Part:
    """Hair that stands off the scalp: a crew cut at a few millimetres, an afro at several centimetres."""
    shell = Shell(
        "hair",
        HAIR,
        KIND_HAIR if curl < 0.3 else KIND_PLAIN,
        fade_width=0.014,
        refinements=2 if length > 0.008 else 1,
        lump_size=0.08 + 0.22 * curl,
        lump_frequency=110.0 + 60.0 * rng.random(),
        ragged=0.004,
        grain=0.35 + 0.5 * curl,
    )
    height = length * smoothstep(-0.002, min(0.05, 0.012 + length), hairline)
    return shell_part(body, shell, hairline, np.asarray(height, np.float32), rng)


def beard_part(body: Body, mask: Floats, length: float, rng: np.random.Generator) -> Part:
    """A beard with volume: `mask` [N] 0..1 says where it grows, `length` is in metres."""
    shell = Shell(
        "beard",
        FACE,
        KIND_PLAIN,
        fade_width=0.04,
        refinements=2,
        lump_size=0.18,
        lump_frequency=220.0,
        ragged=0.001,
        droop=0.4,
        grain=0.8,
    )
    return shell_part(
        body, shell, np.asarray((mask - 0.3) * 0.1, np.float32), np.asarray(length * mask, np.float32), rng
    )


def beard_mask(body: Body, style: str) -> Floats:
    """[N] 0..1 where a beard of this style grows: full or stubble, goatee, circle, chinstrap, moustache."""
    topology = body.topology
    x, y, z = topology.mean.T
    mouth_y = float(topology.mean[topology.upper_lip, 1].mean())
    cheeks = smoothstep(mouth_y + 0.020, mouth_y - 0.006, y - 0.55 * np.clip(0.03 - z, 0, 0.1))
    below = smoothstep(-0.125, -0.100, y + 0.25 * np.clip(z, 0, 0.1))
    front = smoothstep(-0.035, -0.012, z)
    mask = cheeks * below * front
    central = np.exp(-((x / 0.030) ** 4))
    moustache = (
        smoothstep(mouth_y + 0.018, mouth_y + 0.008, y)
        * np.exp(-((x / 0.030) ** 6))
        * smoothstep(mouth_y - 0.012, mouth_y, y)
        * front
    )
    if style in ("goatee", "circle"):
        mask = mask * np.exp(-((x / 0.026) ** 4)) if style == "goatee" else np.maximum(mask * central, moustache)
    elif style == "chinstrap":
        jaw = smoothstep(mouth_y - 0.012, mouth_y - 0.028, y - 0.55 * np.clip(0.03 - z, 0, 0.1))
        mask = mask * jaw
    elif style == "moustache":
        mask = moustache
    else:
        mask = np.maximum(mask, moustache)
    bare = topology.upper_lip | topology.lower_lip | topology.mouth_inside | topology.nose | topology.ear
    distance, _ = cKDTree(topology.mean[bare]).query(topology.mean)
    return np.asarray(mask * smoothstep(0.001, 0.007, distance), np.float32)
