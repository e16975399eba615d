"""Cafca (Buehler et al., SIGGRAPH Asia 2024): synthetic people, 13 expressions, 3 environments, 30 cameras.

    00000/00001_002/cameras_json/C00.json      K 3x3, world2cam 3x4 or 4x4 (OpenCV, metres), and more
    00000/00001_002/color_image/C00.png
    00000/00001_002/foreground_mask/C00.png    grey, 0..255
    00000/00001_002/segmentation/C00.png       16-bit class numbers, 0 background
    00000/00001_002/landmark2d/STAR/C00.npz    (second release) 68 landmarks, none or negative where no face was found
    00000/flame_2023_002/eval_100/mesh/frame_00001.obj    (second release) FLAME fitted to the pictures, in the world

Subjects may lie in chunks (00000-00099/00000/...). Without a sidecar, and with FLAME's neutral head at hand, the fitted
mesh gives the head frame exactly; else the world, which stands about the head with +Y up, is taken for it.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headlift.errors import FormatError, InvalidInputError
from headlift_trainer.datasets.filters import evenly, rank
from headlift_trainer.datasets.headframe import HeadPose, fit_similarity
from headlift_trainer.datasets.interface import F64
from headlift_trainer.datasets.layouts import MomentKey, Picture, RigCameras, RigLayout
from headlift_trainer.datasets.media import name_of, read_json, read_labels, read_mask, read_picture
from headlift_trainer.datasets.poses import intrinsics, matrix_of, rigid

CAMERAS = tuple(f"C{i:02d}" for i in range(30))
_SUBJECT, _MOMENT = re.compile(r"\d{5}"), re.compile(r"(\d{5})_(\d{3})")
_STILL = 0.004  # m that the skull's vertices of a fitted mesh may be off; expressions move the others more


class Cafca(RigLayout):
    """A folder of Cafca.

    Args:
        root: The folder, with or without chunks.
        flame: FLAME's neutral vertices [5023, 3] in metres, to read the fitted meshes with.
    """

    kind = "cafca"

    def __init__(self, root: Path, flame: F64 | None = None) -> None:
        super().__init__(root)
        self._flame = flame

    @cached_property
    def _folders(self) -> dict[str, Path]:
        places = [
            *self.root.iterdir(),
            *(p for chunk in self.root.glob("*-*") if chunk.is_dir() for p in chunk.iterdir()),
        ]
        return {p.name: p for p in sorted(places) if p.is_dir() and _SUBJECT.fullmatch(p.name)}

    def subjects(self) -> list[str]:
        """See RigLayout."""
        return sorted(self._folders)

    def moments(self, subject: str, count: int) -> list[MomentKey]:
        """See RigLayout. With one moment a person, which expression and light it is differs from person to person."""
        folders = [p for p in sorted(self._folders[subject].iterdir()) if p.is_dir() and _MOMENT.fullmatch(p.name)]
        if not folders:
            return []
        first = int(rank(subject) * len(folders))
        turned = folders[first:] + folders[:first]
        return [MomentKey(subject, turned[i].name, turned[i]) for i in evenly(len(turned), count)]

    def cameras(self, moment: MomentKey) -> RigCameras:
        """See RigLayout."""
        paths = sorted((moment.folder / "cameras_json").glob("C*.json"))
        if not paths:
            raise FormatError(f"{moment.key} has no cameras_json/C*.json.")
        viewmats, Ks = [], []
        for path in paths:
            data, where = read_json(path), name_of(path)
            viewmats.append(_world2cam(data, where))
            Ks.append(intrinsics(matrix_of(data, "K", (3, 3), where), where))
        return RigCameras(tuple(path.stem for path in paths), np.stack(viewmats), np.stack(Ks))

    def picture(self, moment: MomentKey, view: str) -> Picture:
        """See RigLayout; where there is no foreground mask, whatever the segmentation does not call background."""
        rgb = read_picture(moment.folder / "color_image" / f"{view}.png")
        mask = moment.folder / "foreground_mask" / f"{view}.png"
        segmentation = moment.folder / "segmentation" / f"{view}.png"
        if not mask.is_file() and segmentation.is_file():
            return Picture(rgb, (read_labels(segmentation) != 0).astype(np.float32))
        return Picture(rgb, read_mask(mask))

    def pose(self, moment: MomentKey, cameras: RigCameras) -> HeadPose:
        """See RigLayout."""
        expression, environment = moment.name.split("_")
        mesh = (
            self._folders[moment.subject]
            / f"flame_2023_{environment}"
            / "eval_100"
            / "mesh"
            / f"frame_{expression}.obj"
        )
        if self._flame is None or not mesh.is_file():
            return HeadPose(np.eye(4), "assumed")
        vertices = _obj_vertices(mesh)
        if vertices.shape != self._flame.shape:
            raise InvalidInputError(f"{name_of(mesh)} has {len(vertices)} vertices; FLAME has {len(self._flame)}.")
        matrix, off = fit_similarity(vertices, self._flame, outlier=_STILL)
        return HeadPose(matrix, "tracked", float(np.median(off)))

    def refused(self, moment: MomentKey, view: str) -> str | None:
        """See RigLayout: views in which the published landmark detector found no face."""
        path = moment.folder / "landmark2d" / "STAR" / f"{view}.npz"
        if not path.parent.is_dir():
            return None
        points = _landmarks(path)
        return None if points is not None and (points[:, :2] >= 0).all() else "no face detected (published landmarks)"

    def audit(self, subject: str) -> list[str]:
        """See RigLayout."""
        found: list[str] = []
        folders = [p for p in sorted(self._folders[subject].iterdir()) if _MOMENT.fullmatch(p.name)]
        if not folders:
            return [f"{subject} has no expression folder."]
        for folder in folders:
            names = {kind: {p.stem for p in (folder / kind).glob("C*.*")} for kind in ("cameras_json", "color_image")}
            masks = {p.stem for kind in ("foreground_mask", "segmentation") for p in (folder / kind).glob("C*.png")}
            where = f"{subject}/{folder.name}"
            for text, gone in (
                ("no calibration", names["color_image"] - names["cameras_json"]),
                ("no picture", names["cameras_json"] - names["color_image"]),
                ("no mask", names["color_image"] - masks),
            ):
                found += [f"{where}: {text} for {', '.join(sorted(gone))}."] if gone else []
            if not names["color_image"] and not names["cameras_json"]:
                found.append(f"{where} is empty.")
        return found


def _world2cam(data: dict[str, Any], where: str) -> F64:
    """[4, 4] of a camera file, with three rows or four."""
    try:
        rows = len(data["world2cam"])
    except (KeyError, TypeError) as error:
        raise FormatError(f"{where} lacks the matrix world2cam.") from error
    return rigid(matrix_of(data, "world2cam", (4 if rows == 4 else 3, 4), where), where)


def _obj_vertices(path: Path) -> F64:
    lines = (line.split()[1:4] for line in path.read_text().splitlines() if line.startswith("v "))
    return np.array([[float(x) for x in line] for line in lines])


def _landmarks(path: Path) -> F64 | None:
    """Landmarks of a file [L, 2 or 3]; None where it holds none."""
    try:
        with np.load(path) as data:
            arrays = [np.asarray(data[name], np.float64) for name in data.files]
    except (OSError, ValueError):
        return None
    points = [a.reshape(-1, a.shape[-1]) for a in arrays if a.ndim >= 2 and a.shape[-1] in (2, 3) and a.size]
    return points[0] if points and np.isfinite(points[0]).all() else None
