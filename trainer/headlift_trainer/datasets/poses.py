"""``headlift_pose.json``: where the head is, found once, kept beside the data.

    {"format": "headlift-pose-1",
     "moments":  {"059/EXP-1-head/0": {"head_from_world": 4x4, "rms_m": 0.002}, "060": {...}},
     "pictures": {"00000/00042": {"viewmat": 4x4, "K": 3x3, "rms_m": 0.004}}}

``moments`` are of capture rigs: a similarity from the data set's world (in its own unit) to metres in the head frame;
the key is the moment's, or its subject's for all moments that have none of their own. ``pictures`` are of single
pictures: world to camera in the head frame, K in pixels. Matrices are rows first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headlift.errors import FormatError
from headlift_trainer.datasets.headframe import HeadPose, scale_of
from headlift_trainer.datasets.interface import F64
from headlift_trainer.datasets.landmarks import FittedCamera
from headlift_trainer.datasets.media import read_json

POSE_FILE = "headlift_pose.json"
_FORMAT = "headlift-pose-1"


@dataclass
class PoseBook:
    """The file in memory."""

    moments: dict[str, HeadPose] = field(default_factory=dict)
    pictures: dict[str, FittedCamera] = field(default_factory=dict)

    def moment(self, key: str, subject: str) -> HeadPose | None:
        """The pose of a moment, or of its subject."""
        return self.moments.get(key) or self.moments.get(subject)

    def write(self, folder: Path) -> Path:
        """Write the file; whole or not at all."""
        moments = {
            key: {"head_from_world": pose.head_from_world.tolist(), "rms_m": pose.rms_m}
            for key, pose in sorted(self.moments.items())
        }
        pictures = {
            key: {"viewmat": camera.viewmat.tolist(), "K": camera.K.tolist(), "rms_m": camera.rms_m}
            for key, camera in sorted(self.pictures.items())
        }
        path = folder / POSE_FILE
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps({"format": _FORMAT, "moments": moments, "pictures": pictures}))
        partial.replace(path)
        return path


def read_poses(folder: Path) -> PoseBook:
    """The file of a data set's folder; an empty book where there is none.

    Raises:
        FormatError: It is not what the layout above says.
    """
    path = folder / POSE_FILE
    if not path.is_file():
        return PoseBook()
    data = read_json(path)
    if data.get("format") != _FORMAT:
        raise FormatError(f"{POSE_FILE} has the format {data.get('format')!r}; {_FORMAT!r} is read here.")
    book = PoseBook()
    for key, entry in data.get("moments", {}).items():
        matrix = matrix_of(entry, "head_from_world", (4, 4), f"{POSE_FILE}: {key}")
        scale_of(matrix)
        book.moments[key] = HeadPose(matrix, "sidecar", entry.get("rms_m"))
    for key, entry in data.get("pictures", {}).items():
        where = f"{POSE_FILE}: {key}"
        viewmat = rigid(matrix_of(entry, "viewmat", (4, 4), where), where)
        book.pictures[key] = FittedCamera(viewmat, matrix_of(entry, "K", (3, 3), where), entry.get("rms_m") or 0.0)
    return book


def matrix_of(entry: Mapping[str, Any], name: str, shape: tuple[int, ...], where: str) -> F64:
    """A matrix of a JSON object.

    Raises:
        FormatError: It is missing, of another shape, or not finite.
    """
    try:
        matrix = np.asarray(entry[name], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{where} lacks the matrix {name}.") from error
    if matrix.shape != shape or not np.isfinite(matrix).all():
        raise FormatError(f"{where}: {name} is {matrix.shape}; finite numbers of shape {shape} are needed.")
    return matrix


def rigid(matrix: F64, where: str) -> F64:
    """A world-to-camera matrix [3, 4] or [4, 4] as [4, 4].

    Raises:
        FormatError: Its left part is no rotation, or the last row is not 0 0 0 1 (as when it lies transposed).
    """
    whole = np.eye(4)
    whole[: len(matrix)] = matrix
    if np.abs(whole[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise FormatError(f"{where}: the last row is {whole[3].round(4).tolist()}, not 0 0 0 1; is it transposed?")
    rotation = whole[:3, :3]
    off = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if off > 1e-3 or np.linalg.det(rotation) < 0:
        raise FormatError(f"{where}: its 3x3 part is no rotation (off by {off:.2g}).")
    return whole


def intrinsics(matrix: F64, where: str) -> F64:
    """A K [3, 3], checked.

    Raises:
        FormatError: No focal length, or the last row is not 0 0 1 (as when it lies transposed).
    """
    if np.abs(matrix[2] - [0, 0, 1]).max() > 1e-6:
        raise FormatError(f"{where}: the last row of K is {matrix[2].round(4).tolist()}, not 0 0 1; is it transposed?")
    if min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise FormatError(f"{where}: K has no positive focal length.")
    return matrix
