"""MakeHuman's expression units told in ICT's blendshapes (ARKit's names)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headlift_trainer.synthetic.arrays import Floats

# The names of an expression code, in ICT-FaceKit's order: Apple ARKit's with sides spelt _L and _R.
EXPRESSIONS = (
    "browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R", "cheekPuff_L",
    "cheekPuff_R", "cheekSquint_L", "cheekSquint_R", "eyeBlink_L", "eyeBlink_R", "eyeLookDown_L", "eyeLookDown_R",
    "eyeLookIn_L", "eyeLookIn_R", "eyeLookOut_L", "eyeLookOut_R", "eyeLookUp_L", "eyeLookUp_R", "eyeSquint_L",
    "eyeSquint_R", "eyeWide_L", "eyeWide_R", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimple_L", "mouthDimple_R", "mouthFrown_L", "mouthFrown_R", "mouthFunnel", "mouthLeft", "mouthLowerDown_L",
    "mouthLowerDown_R", "mouthPress_L", "mouthPress_R", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmile_L", "mouthSmile_R", "mouthStretch_L",
    "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R", "noseSneer_L", "noseSneer_R",
)  # fmt: skip

# unit -> ICT shapes at the unit's full weight; `*` stands for one side (left: _L) on both sides of the table,
# shapes that end in `_` for both sides at once
UNITS: dict[str, dict[str, float]] = {
    "mouth-corner-puller": {"mouthSmile_": 1.0, "cheekSquint_": 0.35},
    "mouth-retraction": {"mouthDimple_": 0.5, "mouthStretch_": 0.25},
    "mouth-upward-retraction": {"mouthUpperUp_": 0.75, "mouthSmile_": 0.25},
    "mouth-part-later": {"mouthLowerDown_": 0.8, "mouthUpperUp_": 0.3},
    "mouth-parling": {"mouthLowerDown_": 0.35, "mouthUpperUp_": 0.25, "jawOpen": 0.10},
    "mouth-open": {"jawOpen": 0.85},
    "mouth-pursing": {"mouthPucker": 0.9},
    "mouth-compression": {"mouthPress_": 0.8},
    "mouth-depression": {"mouthFrown_": 0.7},
    "mouth-elevation": {"mouthShrugLower": 0.6},
    "mouth-eversion": {"mouthFunnel": 0.7},
    "mouth-inward-roll": {"mouthRollLower": 0.6, "mouthRollUpper": 0.6},
    "eye-*-closure": {"eyeBlink*": 1.0},
    "eye-*-slit": {"eyeSquint*": 0.9},
    "eye-*-opened-up": {"eyeWide*": 0.35},
    "eyebrows-*-up": {"browOuterUp*": 0.9, "browInnerUp*": 0.8},
    "eyebrows-*-down": {"browDown*": 0.9},
    "eyebrows-*-inner-up": {"browInnerUp*": 0.45},
    "cheek-*-balloon": {"cheekPuff*": 0.8},
    "nose-*-elevation": {"noseSneer*": 0.5},
    "nose-wrinkler": {"noseSneer_": 0.5},
}


def shapes_of(unit: str) -> dict[str, float] | None:
    """ICT's shapes and weights of a unit, both sides spelt out; None for a unit that the table lacks."""
    for pattern, shapes in UNITS.items():
        for side, suffix in (("left", "_L"), ("right", "_R")):
            if pattern.replace("*", side) == unit:
                return _both(shapes, suffix)
    return None


def expression_code(units: Mapping[str, float]) -> Floats:
    """Weights [53] 0..1 of EXPRESSIONS for MakeHuman's units and their weights."""
    code = np.zeros(len(EXPRESSIONS), np.float32)
    for unit, weight in units.items():
        for shape, share in (shapes_of(unit) or {}).items():
            code[EXPRESSIONS.index(shape)] += weight * share
    return np.clip(code, 0.0, 1.0)


def _both(shapes: Mapping[str, float], suffix: str) -> dict[str, float]:
    spelt: dict[str, float] = {}
    for name, weight in shapes.items():
        if name.endswith("*"):
            spelt[name[:-1] + suffix] = weight
        elif name.endswith("_"):
            spelt |= {f"{name}L": weight, f"{name}R": weight}
        else:
            spelt[name] = weight
    return spelt
