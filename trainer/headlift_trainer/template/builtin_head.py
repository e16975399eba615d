"""The built-in head: a neutral adult bust, sculpted as an implicit surface by our own code.

No scan, mesh or statistical model went into it: skull and neck are ellipsoids and cones, the face is a stack of
horizontal half-ellipses whose midline and outline come from tables of average adult proportions, and eyes, nose,
lips and ears are modelled on top. Metres, FLAME's neutral pose: +Y up, face along +Z, +X the head's left.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from headlift_trainer.template.anatomy import (
    EAR,
    EAR_HALF_HEIGHT,
    EAR_HALF_WIDTH,
    EYE,
    MOUTH_HALF_WIDTH,
    MOUTH_Y,
    ear_frame,
)
from headlift_trainer.template.implicit import Array, Vec, bump, cone, ellipsoid, intersection, mesh, project, union

EYE_RADIUS = 0.012
BOTTOM, SIDE = -0.20, 0.198  # the bust ends here

# The face as a stack of slices: height y, midline depth z without nose and lips, half width, depth of the widest point.
_SLICES = np.array(
    [
        (-0.105, 0.0300, 0.018, 0.010),
        (-0.094, 0.0470, 0.025, 0.010),
        (-0.086, 0.0565, 0.0315, 0.008),
        (-0.079, 0.0600, 0.0370, 0.004),
        (-0.071, 0.0598, 0.0420, 0.000),
        (-0.063, 0.0595, 0.0465, -0.003),
        (-0.054, 0.0620, 0.0505, -0.006),
        (-0.045, 0.0645, 0.0540, -0.008),
        (-0.035, 0.0665, 0.0572, -0.010),
        (-0.025, 0.0675, 0.0605, -0.011),
        (-0.010, 0.0660, 0.0640, -0.012),
        (0.005, 0.0630, 0.0665, -0.012),
        (0.020, 0.0600, 0.0675, -0.012),
        (0.035, 0.0590, 0.0670, -0.012),
        (0.045, 0.0620, 0.0665, -0.012),
        (0.055, 0.0660, 0.0660, -0.012),
        (0.070, 0.0660, 0.0640, -0.012),
        (0.085, 0.0620, 0.0600, -0.012),
    ]
)
_FRONT, _WIDTH, _WIDEST = (PchipInterpolator(_SLICES[:, 0], _SLICES[:, k]) for k in (1, 2, 3))

# Bumps, each with its mirror image: centre, radii, height (negative takes away), m.
_BUMPS: tuple[tuple[Vec, Vec, float], ...] = (
    ((0.049, 0.004, 0.040), (0.013, 0.010, 0.016), 0.0030),  # cheekbone
    ((0.046, -0.030, 0.036), (0.014, 0.014, 0.018), -0.0030),  # hollow of the cheek
    ((0.026, -0.012, 0.056), (0.012, 0.011, 0.014), 0.0012),  # apple of the cheek
    ((0.066, 0.050, 0.030), (0.010, 0.016, 0.016), -0.0035),  # temple
    ((0.017, 0.0450, 0.061), (0.008, 0.0050, 0.010), 0.0016),  # brow, inner
    ((0.029, 0.0490, 0.057), (0.010, 0.0050, 0.012), 0.0030),  # brow, its arch
    ((0.043, 0.0465, 0.046), (0.008, 0.0055, 0.010), 0.0028),  # brow, outer
    ((0.030, 0.0400, 0.055), (0.014, 0.0045, 0.012), -0.0014),  # fold above the lid
    ((0.0165, 0.0310, 0.056), (0.0050, 0.008, 0.012), -0.0060),  # inner corner
    ((0.030, 0.0145, 0.053), (0.012, 0.0045, 0.012), -0.0015),  # below the lid
    ((0.0255, -0.031, 0.060), (0.0045, 0.012, 0.012), -0.0012),  # nasolabial fold
    ((0.0280, -0.0460, 0.053), (0.004, 0.005, 0.010), -0.0012),  # corner of the mouth
    ((0.053, -0.056, 0.002), (0.008, 0.010, 0.014), 0.0020),  # angle of the jaw
    ((0.014, -0.080, 0.056), (0.009, 0.009, 0.010), 0.0015),  # side of the chin
)
_MIDLINE_BUMPS: tuple[tuple[Vec, Vec, float], ...] = (
    ((0.0, -0.0785, 0.058), (0.011, 0.008, 0.012), 0.0012),  # chin
    ((0.0, -0.0640, 0.061), (0.017, 0.0040, 0.010), -0.0022),  # fold under the lower lip
    ((0.0, -0.0330, 0.070), (0.0030, 0.0060, 0.010), -0.0008),  # philtrum
    ((0.0, -0.1130, 0.020), (0.008, 0.010, 0.020), 0.0030),  # larynx
    ((0.0, -0.1680, 0.000), (0.012, 0.010, 0.030), -0.0030),  # pit of the throat
)


def head_field(points: Array) -> Array:
    """The bust's field, [M] m, negative inside, at [M, 3] points."""
    x, y, z = np.ascontiguousarray(points.T)
    x = np.abs(x)
    soft_x = np.sqrt(x * x + 2.25e-6)  # a fold without a crease for what reaches the midline
    d = union(_skull(x, y, z), _face(x, y, z), 0.010)
    for center, size, height in _BUMPS:
        d -= height * bump(soft_x, y, z, center, size)
    d = union(d, _neck(soft_x, y, z), 0.014)
    d = union(d, _shoulders(soft_x, y, z), 0.030)
    for center, size, height in _MIDLINE_BUMPS:
        d -= height * bump(x, y, z, center, size)
    d = _with_eyes(d, x, y, z)
    d = _with_nose(d, x, y, z)
    d = _with_lips(d, x, y, z)
    d = _with_ears(d, x, y, z)
    return intersection(d, x - SIDE, 0.012)


def _skull(x: Array, y: Array, z: Array) -> Array:
    brain = ellipsoid(x, y, z, (0.0, 0.047, -0.014), (0.0715, 0.0875, 0.0835))
    back = ellipsoid(x, y, z, (0.0, 0.054, -0.036), (0.0745, 0.0760, 0.0665))
    return union(brain, back, 0.012)


def _face(x: Array, y: Array, z: Array) -> Array:
    h = np.clip(y, _SLICES[0, 0], _SLICES[-1, 0])
    front, width, widest = _FRONT(h), _WIDTH(h), _WIDEST(h)
    depth = np.where(z > widest, front - widest, 0.055)
    u, v = x / width, (z - widest) / depth
    k0 = np.sqrt(u * u + v * v)
    slab = k0 * (k0 - 1.0) / (np.sqrt((u / width) ** 2 + (v / depth) ** 2) + 1e-9)
    jaw = -0.0885 + 0.42 * (0.050 - z) - y  # the lower border rises toward the ear
    top = y - 0.075
    return intersection(intersection(slab, 0.9 * jaw, 0.014), top, 0.02)


def _neck(x: Array, y: Array, z: Array) -> Array:
    across = 0.93 * x
    along = z + 0.036 - 0.13 * (y + 0.09)  # leans back toward the shoulders
    column = cone(across, y, along, (0.0, -0.03, 0.0), (0.0, -0.20, 0.0), (0.0460, 0.0515))
    muscle = cone(x, y, z, (0.0490, -0.030, -0.036), (0.014, -0.172, 0.006), (0.0085, 0.0080))
    return union(column, muscle, 0.018)


def _shoulders(x: Array, y: Array, z: Array) -> Array:
    trapezius = cone(x, y, z, (0.018, -0.105, -0.062), (0.165, -0.192, -0.055), (0.026, 0.026))
    deltoid = ellipsoid(x, y, z, (0.178, -0.228, -0.045), (0.050, 0.055, 0.052))
    chest = ellipsoid(x, y, z, (0.0, -0.285, -0.045), (0.205, 0.125, 0.092))
    clavicle = cone(x, y, z, (0.018, -0.177, 0.011), (0.150, -0.172, -0.026), (0.0065, 0.0060))
    d = union(union(trapezius, deltoid, 0.03), chest, 0.035)
    return union(d, clavicle, 0.024)


def _with_eyes(d: Array, x: Array, y: Array, z: Array) -> Array:
    ex, ey, ez = x - EYE[0], y - EYE[1], z - EYE[2]
    ball = np.sqrt(ex * ex + ey * ey + ez * ez) - EYE_RADIUS
    along = (ex + 0.0008) / 0.0148  # -1 inner corner, +1 outer corner
    tilt = ey - 0.06 * ex
    open_ = np.sqrt(np.clip(1.0 - along * along, 0.0, 1.0))
    upper = 0.0058 * open_ * (1.0 - 0.12 * along)
    lower = -0.0046 * open_ * (1.0 + 0.15 * along)
    slit = np.maximum(np.maximum(tilt - upper, lower - tilt), (np.abs(along) - 1.0) * 0.0148)
    lids = ellipsoid(x, y, z, (EYE[0] + 0.0002, EYE[1], EYE[2] - 0.0010), (0.0172, 0.0140, 0.0150))
    crease = 0.0010 * np.exp(-0.5 * ((tilt - 0.0098 * np.sqrt(np.clip(1.1 - along * along, 0.0, 1.1))) / 0.0011) ** 2)
    skin = union(d, lids, 0.006) + crease * (ez > 0) * (np.abs(along) < 1.05)
    carved = intersection(skin, -np.maximum(slit, 0.004 - ez), 0.0012)
    corners = np.maximum(skin + 0.0024, ez - 0.0085)  # what lies beside the ball
    return np.minimum(carved, union(ball, corners, 0.0015))


def _with_nose(d: Array, x: Array, y: Array, z: Array) -> Array:
    bridge = cone(x, y, z, (0.0, 0.038, 0.0545), (0.0, -0.006, 0.0765), (0.0058, 0.0084))
    side = cone(x, y, z, (0.0, 0.012, 0.0575), (0.0, -0.014, 0.0640), (0.0105, 0.0140))
    tip = ellipsoid(x, y, z, (0.0, -0.0138, 0.0782), (0.0105, 0.0096, 0.0116))
    wing = ellipsoid(x, y, z, (0.0108, -0.0170, 0.0690), (0.0062, 0.0070, 0.0100))
    columella = cone(x, y, z, (0.0, -0.0195, 0.0810), (0.0, -0.0245, 0.0680), (0.0040, 0.0044))
    d = union(d, union(bridge, side, 0.009), 0.012)
    d = union(d, union(union(tip, wing, 0.0055), columella, 0.004), 0.0065)
    nostril = ellipsoid(x, y, z, (0.0068, -0.0232, 0.0740), (0.0027, 0.0036, 0.0048))
    d = intersection(d, -nostril, 0.0022)
    crease = bump(x, y, z, (0.0185, -0.0175, 0.0640), (0.0022, 0.0060, 0.006))
    return d + 0.0012 * crease


def _with_lips(d: Array, x: Array, y: Array, z: Array) -> Array:
    s = np.minimum(x / MOUTH_HALF_WIDTH, 1.4)
    line = MOUTH_Y + 0.0014 * s * s - 0.0010 * np.exp(-0.5 * (x / 0.005) ** 2)
    taper = np.clip(1.0 - s * s, 0.0, 1.0) ** 0.7
    depth = 0.0650 - 0.0140 * s * s
    v, w = y - line, z - depth
    bow = 1.0 - 0.12 * np.exp(-0.5 * (x / 0.0032) ** 2) + 0.08 * np.exp(-0.5 * ((x - 0.0070) / 0.0035) ** 2)
    upper_half, lower_half = 0.0007 + 0.0038 * taper * bow, 0.0007 + 0.0048 * taper
    upper = _lip(v - upper_half * 0.90, w - 0.0004, upper_half, 0.0012 + 0.0062 * taper)
    lower = _lip(v + lower_half * 0.92, w + 0.0010, lower_half, 0.0012 + 0.0068 * taper)
    end = (s - 1.0) * MOUTH_HALF_WIDTH
    d = union(d, intersection(upper, end, 0.003), 0.0050)
    d = union(d, intersection(lower, end, 0.003), 0.0050)
    gap = np.maximum(np.abs(v) - 0.0006 * (0.2 + taper), end + 0.001)
    return intersection(d, -np.maximum(gap, (depth + 0.0010) - z), 0.0022)


def _lip(v: Array, w: Array, height: Array, depth: Array) -> Array:
    """First-order distance to an elliptic tube whose section changes along the mouth."""
    a, b = v / height, w / depth
    k0 = np.sqrt(a * a + b * b)
    return np.asarray(k0 * (k0 - 1.0) / (np.sqrt((a / height) ** 2 + (b / depth) ** 2) + 1e-9))


def _with_ears(d: Array, x: Array, y: Array, z: Array) -> Array:
    near = np.flatnonzero((np.abs(y - EAR[1]) < 0.06) & (np.abs(z - EAR[2]) < 0.055) & (x > 0.04))
    if not len(near):
        return d
    out, up, back = ear_frame(x[near], y[near], z[near])
    v = up / EAR_HALF_HEIGHT
    b = back / (EAR_HALF_WIDTH * (1.0 + 0.20 * np.clip(v, -1.2, 1.2)))
    r = np.sqrt(v * v + b * b) + 1e-9
    angle = np.arctan2(b, v)  # 0 top, +pi/2 back edge, -pi/2 front edge
    rim = np.clip((angle + 1.5) / 0.5, 0.0, 1.0) * np.clip((2.5 - angle) / 0.6, 0.0, 1.0)
    behind = np.clip((angle + 0.5) / 0.6, 0.0, 1.0) * np.clip((2.7 - angle) / 0.5, 0.0, 1.0)
    relief = 0.0045 * rim * np.exp(-0.5 * ((r - 0.90) / 0.085) ** 2)
    relief += 0.0030 * behind * np.exp(-0.5 * ((r - 0.56) / 0.10) ** 2)
    relief -= 0.0070 * np.exp(-0.5 * (((b + 0.22) / 0.34) ** 2 + ((v + 0.12) / 0.30) ** 2))
    relief += 0.0050 * np.exp(-0.5 * (((b + 0.80) / 0.20) ** 2 + ((v + 0.14) / 0.14) ** 2))
    relief += 0.0020 * np.exp(-0.5 * ((b / 0.5) ** 2 + ((v + 0.85) / 0.22) ** 2))
    front = 0.0050 + relief
    slab = intersection(out - front, (0.0015 + 0.35 * relief) - 0.0015 - out - 0.0005, 0.0022)
    ear = intersection(slab, (r - 1.0) * 0.0175, 0.0050)
    d = d.copy()
    d[near] = union(d[near], ear, 0.0050)
    return d


@cache
def head_mesh(cell: float = 0.0022) -> tuple[Array, NDArray[np.int64], Array]:
    """The left half of the bust (and the cells on its midline) as vertices [V, 3], triangles [F, 3], normals [V, 3]."""
    vertices, faces = mesh(head_field, (-cell, BOTTOM - cell, -0.16), (0.206, 0.145, 0.105), cell)
    vertices, normals = project(head_field, vertices)
    return vertices, faces, normals


def snap(points: Array) -> tuple[Array, Array]:
    """Points [M, 3] moved onto the bust's exact surface, and its unit normals there [M, 3]."""
    return project(head_field, points)
