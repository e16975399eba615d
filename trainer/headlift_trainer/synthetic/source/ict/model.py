"""ICT-FaceKit's light morphable model (MIT): a mean head, 100 shape modes of light-stage scans, 53 expressions.

Read from `ict-facekit/ict_light.npz` (shapes as scaled int16 offsets) and `vertex_indices.json` beside it, given by
the user and never copied.

Legend: I = 26,719 vertices of ICT's mesh, K modes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from headlift.errors import FormatError, NotFoundError
from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.base.topology import EYE_DISTANCE, EYE_MIDPOINT
from headlift_trainer.synthetic.source.expressions import EXPRESSIONS

# Ranges of vertices, from the table in the kit's README.
SKIN = slice(0, 11_248)  # face, head and neck: one connected sheet
FACE = slice(0, 9_409)
MOUTH_SOCKET = slice(11_248, 13_294)
GUMS = slice(14_062, 17_039)
UPPER_TEETH = slice(17_039, 19_247)
LOWER_TEETH = slice(19_247, 21_451)
SCLERA_L, SCLERA_R = slice(21_451, 22_221), slice(23_021, 23_791)
EYEBALL_L, EYEBALL_R = slice(21_451, 23_021), slice(23_021, 24_591)
_VERTICES = 26_719


class IctModel:
    """The arrays of the kit, turned to the canonical frame (metres, eyes at `EYE_MIDPOINT`)."""

    def __init__(self, root: Path) -> None:
        folder = root / "ict-facekit"
        archive, indices = folder / "ict_light.npz", folder / "vertex_indices.json"
        for path in (archive, indices):
            if not path.is_file():
                raise NotFoundError(f"The asset ict-facekit/{path.name} is missing; give a folder that holds it.")
        with np.load(archive, allow_pickle=False) as file:
            neutral = file["neutral"].astype(np.float32)
            faces = file["faces"].astype(np.int32)
            modes = file["id_delta_i16"].astype(np.float32) * file["id_scale"][:, None, None]
            shapes = dict(zip(file["ex_names"].tolist(), range(len(file["ex_names"])), strict=True))
            moves = file["ex_delta_i16"].astype(np.float32) * file["ex_scale"][:, None, None]
        described = json.loads(indices.read_text(encoding="utf-8"))
        missing = [name for name in EXPRESSIONS if name not in shapes]
        if len(neutral) != _VERTICES or missing:
            raise FormatError(
                f"ict_light.npz has {len(neutral)} vertices and lacks {len(missing)} expressions; "
                f"the kit has {_VERTICES} and all of them. Fetch it again."
            )
        left, right = neutral[EYEBALL_L].mean(0), neutral[EYEBALL_R].mean(0)
        scale = np.float32(EYE_DISTANCE / np.linalg.norm(left - right))
        self.neutral: Floats = (neutral - (left + right) / 2) * scale + np.array(EYE_MIDPOINT, np.float32)  # [I, 3] m
        self.identity: Floats = modes * scale  # [100, I, 3] m per standard deviation
        self.expression: Floats = moves[[shapes[name] for name in EXPRESSIONS]] * scale  # [53, I, 3] m
        quads = faces[:, 3] >= 0
        self.triangles: Ints = np.concatenate([faces[:, :3], faces[quads][:, [0, 2, 3]]])
        self.landmarks: Ints = np.array(described["idx_to_landmark_verts"], np.int32)  # [68] iBUG

    def triangles_of(self, part: slice) -> Ints:
        """[T, 3] triangles whose corners all lie in a range of vertices."""
        inside = (self.triangles >= part.start) & (self.triangles < part.stop)
        return np.ascontiguousarray(self.triangles[inside.all(1)])


def fit_sphere(points: Floats) -> tuple[Floats, float]:
    """Centre [3] and radius of the sphere nearest to points [N, 3], least squares."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], 1).astype(np.float64)
    solution = np.linalg.lstsq(system, (points.astype(np.float64) ** 2).sum(1), rcond=None)[0]
    center = solution[:3]
    return np.asarray(center, np.float32), float(np.sqrt(solution[3] + center @ center))
