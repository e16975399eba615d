"""Who a procedural head is and what its face does: smooth displacement fields on the mean head.

Every field is a function of the place on the mean head, so it moves vertices, eyeballs and teeth alike.

Legend: P points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.source.procedural.mesh import below_mouth, between_lips, mouth_coordinates
from headlift_trainer.template.anatomy import MOUTH_HALF_WIDTH, MOUTH_Y

_JAW_AXIS = (0.002, -0.012)  # y, z of the hinge, m
_JAW_ANGLE = 0.34  # radians at jawOpen 1


@dataclass(frozen=True)
class Thumb:
    """A Gaussian push, and its mirror image: where, how wide, which way per unit (x outward)."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    push: tuple[float, float, float]

    def __call__(self, points: Floats) -> Floats:
        """Displacement [P, 3] m per unit."""
        total = np.zeros_like(points)
        for side in (1.0, -1.0):
            if side < 0 and self.center[0] == 0.0:
                break
            mirror = np.array([side, 1.0, 1.0], np.float32)
            away = (points - np.array(self.center, np.float32) * mirror) / np.array(self.size, np.float32)
            total += np.exp(-0.5 * (away**2).sum(1))[:, None] * (np.array(self.push, np.float32) * mirror)
        return total


def _scaled(axis: int, low: float, high: float, center: float) -> Callable[[Floats], Floats]:
    """Growth by one part in a hundred along an axis, fading in with height."""

    def push(points: Floats) -> Floats:
        total = np.zeros_like(points)
        total[:, axis] = 0.01 * (points[:, axis] - center) * smoothstep(low, high, points[:, 1])
        return total

    return push


# trait -> field per unit, standard deviation of the unit, what a male adds (a female takes), what old age adds
_TRAITS: dict[str, tuple[Callable[[Floats], Floats], float, float, float]] = {
    "skull width": (_scaled(0, -0.02, 0.06, 0.0), 2.6, 0.3, 0.0),
    "skull height": (_scaled(1, 0.03, 0.10, 0.03), 3.5, 0.0, 0.0),
    "skull depth": (_scaled(2, 0.02, 0.08, 0.0), 3.0, 0.4, 0.0),
    "face length": (_scaled(1, 0.02, -0.06, 0.0), 3.5, 1.0, 0.0),
    "jaw width": (Thumb((0.052, -0.050, 0.010), (0.020, 0.026, 0.036), (0.001, 0.0, 0.0)), 2.4, 2.0, -0.5),
    "chin width": (Thumb((0.018, -0.078, 0.052), (0.011, 0.014, 0.018), (0.001, 0.0, 0.0)), 1.8, 1.3, 0.0),
    "chin forward": (Thumb((0.0, -0.078, 0.058), (0.022, 0.015, 0.022), (0.0, 0.0, 0.001)), 2.2, 0.8, 0.5),
    "chin down": (Thumb((0.0, -0.082, 0.050), (0.026, 0.016, 0.026), (0.0, -0.001, 0.0)), 2.2, 1.0, 0.0),
    "cheekbones": (Thumb((0.050, 0.004, 0.035), (0.015, 0.014, 0.020), (0.0008, 0.0, 0.0007)), 1.8, -0.3, 0.6),
    "cheeks": (Thumb((0.042, -0.030, 0.038), (0.016, 0.018, 0.022), (0.0010, 0.0, 0.0006)), 2.4, -0.3, -1.4),
    "jowls": (Thumb((0.036, -0.066, 0.036), (0.014, 0.014, 0.018), (0.0008, -0.0006, 0.0004)), 1.0, 0.0, 2.2),
    "brow ridge": (Thumb((0.022, 0.046, 0.062), (0.020, 0.008, 0.014), (0.0, 0.0, 0.001)), 1.1, 1.5, 0.2),
    "forehead": (Thumb((0.0, 0.082, 0.062), (0.040, 0.024, 0.030), (0.0, 0.0, 0.001)), 2.2, -1.0, 0.0),
    "nose length": (Thumb((0.0, -0.016, 0.074), (0.014, 0.014, 0.022), (0.0, -0.001, 0.0)), 1.7, 0.6, 1.0),
    "nose forward": (Thumb((0.0, -0.012, 0.080), (0.012, 0.018, 0.018), (0.0, 0.0, 0.001)), 2.2, 0.8, 0.6),
    "nose width": (Thumb((0.012, -0.018, 0.068), (0.007, 0.009, 0.014), (0.001, 0.0, 0.0)), 1.5, 0.5, 0.5),
    "nose bridge": (Thumb((0.0, 0.014, 0.070), (0.008, 0.014, 0.016), (0.0, 0.0, 0.001)), 1.4, 0.5, 0.0),
    "nose tip up": (Thumb((0.0, -0.014, 0.082), (0.010, 0.009, 0.014), (0.0, 0.001, 0.0)), 1.4, -0.6, -0.6),
    "upper lip": (Thumb((0.0, -0.0405, 0.070), (0.017, 0.0040, 0.012), (0.0, 0.0006, 0.0010)), 1.0, -0.4, -0.8),
    "lower lip": (Thumb((0.0, -0.0520, 0.069), (0.015, 0.0050, 0.012), (0.0, -0.0006, 0.0010)), 1.0, -0.3, -0.8),
    "mouth width": (Thumb((0.025, -0.045, 0.054), (0.010, 0.012, 0.016), (0.001, 0.0, -0.0003)), 1.7, 0.6, 0.3),
    "mouth forward": (Thumb((0.0, -0.045, 0.066), (0.022, 0.018, 0.020), (0.0, 0.0, 0.001)), 1.5, 0.0, -0.5),
    "eye corners": (Thumb((0.045, 0.028, 0.044), (0.009, 0.010, 0.014), (0.0, 0.001, 0.0)), 0.9, -0.3, -0.6),
    "lids": (Thumb((0.031, 0.0375, 0.053), (0.014, 0.0035, 0.010), (0.0, -0.0005, 0.0005)), 1.2, 0.4, 1.6),
    "eye bags": (Thumb((0.030, 0.0145, 0.053), (0.011, 0.0040, 0.010), (0.0, 0.0, 0.0006)), 0.8, 0.1, 1.4),
    "temples": (Thumb((0.064, 0.050, 0.030), (0.014, 0.020, 0.020), (0.001, 0.0, 0.0)), 1.2, 0.0, -1.0),
    "ears": (Thumb((0.082, 0.012, -0.020), (0.014, 0.034, 0.024), (0.001, 0.0, -0.0006)), 2.4, 0.5, 0.8),
    "neck": (Thumb((0.050, -0.110, -0.030), (0.024, 0.036, 0.060), (0.001, 0.0, 0.0)), 2.5, 3.2, 0.0),
    "neck front": (Thumb((0.0, -0.115, 0.024), (0.024, 0.020, 0.026), (0.0, 0.0, 0.001)), 1.6, 1.0, 1.6),
    "shoulders": (Thumb((0.19, -0.20, -0.05), (0.070, 0.070, 0.090), (0.004, 0.001, 0.0)), 1.4, 1.6, -0.4),
}


@dataclass(frozen=True)
class Person:
    """What was drawn for one head."""

    maleness: float  # 0..1
    age: float  # 0 child, 0.5 young adult, 1 old
    traits: dict[str, float]
    expression_name: str
    code: dict[str, float] = field(default_factory=dict)  # ICT's blendshape -> weight
    gaze_deg: tuple[float, float] = (0.0, 0.0)  # right(+X), up
    seed: int = 0

    @property
    def is_male(self) -> bool:
        """Which way beards and hair cuts are drawn."""
        return self.maleness > 0.5


# probability, blendshapes at full strength; `_` at the end stands for both sides
_EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "neutral": (0.40, {}),
    "smile": (0.25, {"mouthSmile_": 0.8, "cheekSquint_": 0.4}),
    "toothy smile": (0.17, {"mouthSmile_": 0.9, "mouthUpperUp_": 0.6, "mouthLowerDown_": 0.3, "jawOpen": 0.10}),
    "lips parted": (0.08, {"jawOpen": 0.15}),
    "talking": (0.06, {"jawOpen": 0.40}),
    "pursed": (0.02, {"mouthPucker": 0.8}),
    "eyes closed": (0.02, {"eyeBlink_": 1.0}),
}


def sample_person(rng: np.random.Generator, seed: int) -> Person:
    """Draw sex, age from 15 to 80, traits and a mild expression."""
    maleness = float(np.clip(rng.normal(0.88, 0.12), 0.5, 1.0))
    maleness = maleness if rng.random() < 0.5 else 1.0 - maleness
    age = float(0.45 + 0.55 * rng.beta(0.8, 1.5))
    old = max(0.0, 2 * age - 1)
    traits = {
        name: float(np.clip(rng.normal(0, 0.75 * spread), -1.6 * spread, 1.6 * spread))
        + (2 * maleness - 1) * male
        + (old - 0.3) * aged
        for name, (_, spread, male, aged) in _TRAITS.items()
    }
    name = str(rng.choice(list(_EXPRESSIONS), p=[share for share, _ in _EXPRESSIONS.values()]))
    strength, code = rng.uniform(0.6, 1.0), {}
    wanted = dict(_EXPRESSIONS[name][1])
    if rng.random() < 0.3:
        wanted["browInnerUp_"] = wanted["browOuterUp_"] = rng.uniform(0.1, 0.6)
    wanted["eyeBlink_"] = wanted.get("eyeBlink_", 0.0) + abs(rng.normal(0, 0.05))
    for shape, weight in wanted.items():
        for side in ("L", "R") if shape.endswith("_") else ("",):
            code[shape + side] = float(np.clip(weight * strength * (1 + rng.normal(0, 0.06)), 0, 1))
    gaze = (float(rng.normal(0, 6)), float(rng.normal(-1, 4)))
    return Person(maleness, age, traits, name, code, gaze, seed)


def displaced(points: Floats, person: Person) -> Floats:
    """Points [P, 3] m of the mean head on this person's head, expression included."""
    rng = np.random.default_rng([person.seed, 7])
    moved = points.copy()
    for name, weight in person.traits.items():
        moved += np.float32(weight) * _TRAITS[name][0](points)
    # what no trait tells: gentle lumps, and a little asymmetry
    calm = smoothstep(-0.13, -0.05, points[:, 1])[:, None] * 0.0007
    for axis in range(3):
        noise = smooth_noise(points * np.array([1.0, 1.0, 1.0], np.float32), 38.0, rng)
        moved[:, axis] += calm[:, 0] * noise
    moved += _performed(points, person.code)
    return np.asarray(moved, np.float32)


def _performed(points: Floats, code: Mapping[str, float]) -> Floats:
    total = np.zeros(points.shape, np.float64)
    sides = {"_L": points[:, 0] > 0, "_R": points[:, 0] <= 0}
    for name, weight in code.items():
        if name in ("jawOpen", "mouthPucker"):
            total += weight * _FIELDS[name](points)
        elif name[:-2] in _FIELDS:
            reach = 0.004 if name.startswith("mouth") else 0.002
            x = points[:, 0] if name.endswith("_L") else -points[:, 0]
            share = smoothstep(-reach, reach, x)[:, None] if name[-2:] in sides else 1.0
            total += weight * share * _FIELDS[name[:-2]](points)
    opened = code.get("jawOpen", 0.0) * 0.9 + 0.25 * (code.get("mouthUpperUp_L", 0.0) + code.get("mouthUpperUp_R", 0.0))
    return np.asarray(total + min(1.0, 3.0 * opened) * _pocket(points), np.float64)


def _pocket(points: Floats) -> Floats:
    """What lies between the lips draws back."""
    _, depth = mouth_coordinates(points)
    inside = between_lips(points) & (points[:, 2] < depth)
    back = np.zeros_like(points)
    back[:, 2] = -0.016 * inside * (1 - (points[:, 0] / MOUTH_HALF_WIDTH) ** 4)
    return back


def _jaw_open(points: Floats) -> Floats:
    share = below_mouth(points) * _JAW_ANGLE
    y, z = points[:, 1] - _JAW_AXIS[0], points[:, 2] - _JAW_AXIS[1]
    return np.stack([np.zeros_like(share), -z * share, 0.6 * y * share], 1).astype(np.float32)


def _smile(points: Floats) -> Floats:
    corner = Thumb((0.0255, MOUTH_Y, 0.054), (0.010, 0.010, 0.016), (0.0065, 0.0060, -0.0035))(points)
    lips = Thumb((0.012, MOUTH_Y, 0.066), (0.008, 0.008, 0.014), (0.0020, 0.0008, -0.0015))(points)
    cheek = Thumb((0.032, -0.014, 0.054), (0.011, 0.011, 0.014), (0.0008, 0.0026, 0.0026))(points)
    return corner + lips + cheek


def _lip(points: Floats, sign: float) -> Floats:
    """Upper (1) or lower (-1) lip away from the other."""
    above, _ = mouth_coordinates(points)
    x, z = points[:, 0], points[:, 2]
    share = (
        np.exp(-0.5 * ((x / 0.016) ** 2)) * smoothstep(0.030, 0.050, z) * np.exp(-np.maximum(sign * above, 0) / 0.011)
    )
    share = share * (sign * above > 0.0006)
    return np.stack([np.zeros_like(share), sign * 0.0042 * share, -0.0008 * share], 1).astype(np.float32)


def _pucker(points: Floats) -> Floats:
    near = np.exp(-0.5 * ((points[:, 1] - MOUTH_Y) / 0.014) ** 2) * smoothstep(0.03, 0.05, points[:, 2])
    near = near * np.exp(-0.5 * (points[:, 0] / 0.022) ** 2)
    return np.stack([-0.30 * points[:, 0] * near, np.zeros_like(near), 0.006 * near], 1).astype(np.float32)


_FIELDS: dict[str, Callable[[Floats], Floats]] = {
    "jawOpen": _jaw_open,
    "mouthPucker": _pucker,
    "mouthSmile": _smile,
    "mouthUpperUp": lambda points: _lip(points, 1.0),
    "mouthLowerDown": lambda points: _lip(points, -1.0),
    "cheekSquint": Thumb((0.032, 0.008, 0.052), (0.012, 0.007, 0.012), (0.0, 0.0016, 0.0012)),
    "browInnerUp": Thumb((0.016, 0.048, 0.061), (0.010, 0.009, 0.014), (0.0, 0.0040, 0.0)),
    "browOuterUp": Thumb((0.040, 0.048, 0.052), (0.011, 0.009, 0.014), (0.0, 0.0040, 0.0)),
    "browDown": Thumb((0.022, 0.047, 0.060), (0.014, 0.008, 0.014), (-0.0008, -0.0030, 0.0004)),
}
