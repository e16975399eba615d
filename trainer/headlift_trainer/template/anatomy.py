"""Where is what on a neutral head in the canonical frame: regions, hairline and how many anchors each place deserves.

Template files carry no labels, so regions are told by geometry. The constants hold for the built-in head exactly and
for FLAME's neutral head, which the canonical frame is taken from, within about a centimetre.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headlift.model.template import Region
from headlift_trainer.template.implicit import Array, bump

EYE = (0.0315, 0.028, 0.042)  # centre of the left eyeball, m
EAR = (0.0725, 0.010, -0.016)  # middle of the left ear where it leaves the skull
EAR_FLARE, EAR_TILT = 0.50, 0.20  # radians: how far the back edge stands off, how far the top leans back
EAR_HALF_HEIGHT, EAR_HALF_WIDTH = 0.0315, 0.0165
MOUTH_Y, MOUTH_HALF_WIDTH = -0.0455, 0.0255
HAIR_LIFT = 0.015  # m, height of the hair shell above the scalp

# Azimuth from the face's midline (degrees) -> height of the hairline (m).
_HAIRLINE = np.array(
    [
        (0, 0.100),
        (25, 0.098),
        (40, 0.086),
        (55, 0.062),
        (70, 0.040),
        (80, 0.030),
        (100, 0.030),
        (112, 0.000),
        (128, -0.035),
        (150, -0.050),
        (180, -0.055),
    ]
)


# Anchors per area, relative to the scalp's.
_DENSITY = {
    Region.FACE: 4.3,
    Region.EYE: 7.5,
    Region.MOUTH: 6.5,
    Region.EAR: 3.0,
    Region.SCALP: 1.0,
    Region.HAIR: 1.0,
    Region.NECK: 0.7,
    Region.SHOULDERS: 0.33,
}


def ear_frame(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Coordinates of the left ear: out of its plane, up along it, toward its back edge (m)."""
    px, py, pz = x - EAR[0], y - EAR[1], z - EAR[2]
    out = np.cos(EAR_FLARE) * px + np.sin(EAR_FLARE) * pz
    back = np.sin(EAR_FLARE) * px - np.cos(EAR_FLARE) * pz
    up = np.cos(EAR_TILT) * py + np.sin(EAR_TILT) * back
    return out, up, np.cos(EAR_TILT) * back - np.sin(EAR_TILT) * py


def above_hairline(points: Array) -> Array:
    """Height of [M, 3] points above the hairline, [M] m; negative where no hair grows."""
    azimuth = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] + 0.012))
    return np.asarray(points[:, 1] - np.interp(azimuth, _HAIRLINE[:, 0], _HAIRLINE[:, 1]))


def regions_of(points: Array) -> NDArray[np.uint8]:
    """Region [M] of surface points [M, 3] (never HAIR: the shell above the scalp is not part of the surface)."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    out, up, back = ear_frame(x, y, z)
    eye = ((x - EYE[0]) / 0.0175) ** 2 + ((y - EYE[1]) / 0.0115) ** 2 < 1.0
    mouth = (x / (MOUTH_HALF_WIDTH + 0.001)) ** 2 + ((y - MOUTH_Y) / 0.0115) ** 2 < 1.0
    ear = (np.hypot(up / EAR_HALF_HEIGHT, back / (EAR_HALF_WIDTH * 1.15)) < 1.12) & (np.abs(out) < 0.016)
    jaw = np.minimum(-0.090 + 0.45 * (0.045 - z), -0.052)
    around_neck = np.hypot(x, z + 0.035)
    region = np.full(len(points), Region.FACE, np.uint8)
    region[above_hairline(points) > 0.0] = Region.SCALP
    region[(y < jaw) | ((y < -0.02) & (above_hairline(points) < 0.0) & (z < -0.030))] = Region.NECK
    region[(y < -0.155) | ((y < -0.095) & (around_neck > 0.075))] = Region.SHOULDERS
    region[eye & (z > 0.025)] = Region.EYE
    region[mouth & (z > 0.040)] = Region.MOUTH
    region[ear & (x > 0.060)] = Region.EAR
    return region


def density_at(points: Array) -> Array:
    """Relative number of anchors per area [M] at surface points [M, 3]: the scalp has 1."""
    table = np.array([_DENSITY[r] for r in Region])
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    nose = bump(x, y, z, (0.0, -0.012, 0.080), (0.014, 0.014, 0.020))
    eye = bump(x, y, z, (EYE[0], EYE[1], 0.050), (0.014, 0.010, 0.020))
    front = (z > 0.02) & (y > -0.10)
    return np.asarray(table[regions_of(points)] + front * (2.0 * nose + 2.0 * eye))
