"""Coordinate frames of splat files, and the one conversion between them.

A frame is named by three letters: where X, Y and Z point for a viewer who stands in front of the
face, in the letters of the SPZ specification (Left/Right, Up/Down, Front/Back, "back" being toward
the viewer). Headlift's own frame (+Y up, the face looks along +Z, the head's own left on the viewer's
right) is therefore ``RUB``, glTF 2.0's asset frame (Y up, front of the asset on +Z) has the same axes,
SPZ stores ``RUB`` and 3DGS's PLY is ``RDF``.

All eight frames differ by signs only, so a conversion is exact and undoes itself. With F the diagonal
matrix of the signs, a mean becomes F m and a rotation F R F: a proper rotation for either handedness,
whose local axes flip with it, which a Gaussian cannot tell.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError

Frame = Literal["LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF"]

FRAMES: tuple[Frame, ...] = get_args(Frame)  # in the order of SPZ's CoordinateSystem, which counts from 1
HEAD_FRAME: Frame = "RUB"
PLY_FRAME: Frame = "RDF"
SPZ_FRAME: Frame = "RUB"
GLTF_FRAME: Frame = "RUB"

_WORDS = {"R": "right", "L": "left", "U": "up", "D": "down", "F": "away from the viewer", "B": "toward the viewer"}


def parse_frame(name: str) -> Frame:
    """The frame called ``name``, or a FormatError that lists the frames there are."""
    if name not in FRAMES:
        raise FormatError(f"Frame {name[:16]!r} is not known; it must be one of {', '.join(FRAMES)}.", field="frame")
    return name


def describe_frame(frame: Frame) -> str:
    """One line for a file's comment, such as ``RDF: +X right, +Y down, +Z away from the viewer``."""
    return f"{frame}: " + ", ".join(f"+{axis} {_WORDS[letter]}" for axis, letter in zip("XYZ", frame, strict=True))


def signs_between(source: Frame, target: Frame) -> tuple[int, int, int]:
    """Sign of each axis on the way from ``source`` to ``target`` (the same on the way back)."""
    x, y, z = (1 if a == b else -1 for a, b in zip(source, target, strict=True))
    return x, y, z


def convert_means(
    means: NDArray[np.float32],  # [N, 3]
    source: Frame,
    target: Frame,
) -> NDArray[np.float32]:
    """Positions of ``source`` in ``target``; the same array where nothing changes."""
    signs = signs_between(source, target)
    return means if signs == (1, 1, 1) else means * np.array(signs, np.float32)


def convert_quats(
    quats: NDArray[np.float32],  # [N, 4] wxyz
    source: Frame,
    target: Frame,
) -> NDArray[np.float32]:
    """Rotations of ``source`` in ``target``: conjugation by the signs, F R F."""
    x, y, z = signs_between(source, target)
    if x == y == z:  # F is +1 or -1: conjugation does nothing
        return quats
    return quats * np.array([1, y * z, x * z, x * y], np.float32)
