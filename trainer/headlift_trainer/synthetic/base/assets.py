"""Readers for a folder of MakeHuman assets (CC0), given by the user and never copied.

The folder has the layout of the two public repositories side by side::

    DIR/makehuman/data/3dobjs/base.obj                 base mesh: body, helpers, joints; decimetres, +Y up, face to +Z
    DIR/makehuman/data/targets/<region>/<name>.target  sparse vertex offsets of one shape
    DIR/makehuman/data/eyes/high-poly/...              eyeballs
    DIR/makehuman-assets/base/{hair,eyebrows,eyelashes,teeth,tongue}/...   proxies: .mhclo + .obj + .png
    DIR/makehuman-assets/base/{skins/textures,eyes/materials}/*.png        pictures

A proxy is a mesh whose every vertex is tied to three vertices of the base mesh, so it follows any change of shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headlift.errors import FormatError, NotFoundError
from headlift_trainer.synthetic.arrays import Floats, Ints

MACRO_RACES = ("african", "asian", "caucasian")


@dataclass(frozen=True)
class ObjMesh:
    """A triangulated OBJ file. Legend: N vertices, U texture vertices, T triangles."""

    vertices: Floats  # [N, 3] units of the file
    uvs: Floats  # [U, 2] 0..1, v up
    triangles: Ints  # [T, 3] into vertices
    uv_triangles: Ints  # [T, 3] into uvs
    groups: NDArray[np.str_]  # [T] name of the group that each triangle stands in

    @property
    def corner_uvs(self) -> Floats:
        """Texture coordinates per triangle corner, [T, 3, 2]."""
        return self.uvs[self.uv_triangles]


def load_obj(path: Path) -> ObjMesh:
    """Read positions, texture coordinates and faces of an OBJ file; polygons become fans of triangles.

    Raises:
        NotFoundError: The file is not there.
        FormatError: A line does not parse, or a face points outside the vertex list.
    """
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    triangles: list[list[int]] = []
    uv_triangles: list[list[int]] = []
    groups: list[str] = []
    group = ""
    try:
        for line in _lines(path):
            word, *values = line.split()
            if word == "v":
                vertices.append([float(x) for x in values[:3]])
            elif word == "vt":
                uvs.append([float(x) for x in values[:2]])
            elif word == "g":
                group = values[0] if values else ""
            elif word == "f":
                corners = [value.split("/") for value in values]
                points = [int(corner[0]) - 1 for corner in corners]
                textures = [int(corner[1]) - 1 if len(corner) > 1 and corner[1] else 0 for corner in corners]
                for k in range(1, len(points) - 1):
                    triangles.append([points[0], points[k], points[k + 1]])
                    uv_triangles.append([textures[0], textures[k], textures[k + 1]])
                    groups.append(group)
    except (ValueError, IndexError) as error:
        raise FormatError(f"{path.name} is not a readable OBJ file ({error}); fetch the asset again.") from error
    mesh = ObjMesh(
        np.array(vertices, np.float32).reshape(-1, 3),
        np.array(uvs or [[0.0, 0.0]], np.float32),
        np.array(triangles, np.int32).reshape(-1, 3),
        np.array(uv_triangles, np.int32).reshape(-1, 3),
        np.array(groups, dtype=np.str_),
    )
    if mesh.triangles.size and not 0 <= mesh.triangles.min() <= mesh.triangles.max() < len(mesh.vertices):
        raise FormatError(f"{path.name} has a face outside its {len(mesh.vertices)} vertices; fetch the asset again.")
    return mesh


@dataclass(frozen=True)
class Target:
    """Sparse offsets of base vertices at full strength."""

    indices: Ints  # [K] base vertices
    offsets: Floats  # [K, 3] dm


def load_target(path: Path) -> Target:
    """Read a .target file: one line `vertex dx dy dz` per moved vertex, `#` starts a comment.

    Raises:
        NotFoundError: The file is not there.
        FormatError: A line does not parse.
    """
    try:
        rows = [[float(value) for value in line.split()[:4]] for line in _lines(path)]
        table = np.array(rows, np.float32).reshape(-1, 4)
    except ValueError as error:
        raise FormatError(f"{path.name} is not a readable target ({error}); fetch the asset again.") from error
    return Target(table[:, 0].astype(np.int32), np.ascontiguousarray(table[:, 1:]))


@dataclass(frozen=True)
class Proxy:
    """A mesh tied to the base mesh (.mhclo + .obj)."""

    mesh: ObjMesh
    anchors: Ints  # [N, 3] base vertices
    weights: Floats  # [N, 3] of the anchors
    offsets: Floats  # [N, 3] dm, scaled per axis when the body changes size
    scales: tuple[tuple[int, int, float] | None, ...]  # per axis: two base vertices and their distance at scale 1

    def fit(self, base_vertices: Floats) -> Floats:
        """Positions of the proxy's vertices on a body of this shape: [19158, 3] dm -> [N, 3] dm."""
        scale = np.ones(3, np.float32)
        for axis, entry in enumerate(self.scales):
            if entry is not None:
                first, second, reference = entry
                scale[axis] = abs(base_vertices[first, axis] - base_vertices[second, axis]) / reference
        tied = np.einsum("nkd,nk->nd", base_vertices[self.anchors], self.weights)
        return np.asarray(tied + self.offsets * scale, np.float32)


def load_proxy(mhclo: Path, obj: Path) -> Proxy:
    """Read a proxy; a vertex line holds one base vertex, or three with weights and an offset.

    Raises:
        NotFoundError: A file is not there.
        FormatError: A line does not parse, or the two files disagree on the number of vertices.
    """
    rows: list[list[float]] = []
    scales: list[tuple[int, int, float] | None] = [None, None, None]
    reading = False
    try:
        for line in _lines(mhclo):
            word, *values = line.split()
            if word in ("x_scale", "y_scale", "z_scale"):
                scales["xyz".index(word[0])] = (int(values[0]), int(values[1]), float(values[2]))
            elif word == "verts":
                reading = True
            elif word == "delete_verts":
                reading = False
            elif reading and word.isdigit():
                rows.append([float(word), *map(float, values[:8])] if values else [float(word)] * 3 + [1.0] + [0.0] * 5)
        table = np.array(rows, np.float64).reshape(-1, 9)
    except (ValueError, IndexError) as error:
        raise FormatError(f"{mhclo.name} is not a readable proxy ({error}); fetch the asset again.") from error
    mesh = load_obj(obj)
    if len(table) != len(mesh.vertices):
        raise FormatError(
            f"{mhclo.name} ties {len(table)} vertices, {obj.name} has {len(mesh.vertices)}; fetch both again."
        )
    return Proxy(
        mesh,
        table[:, :3].astype(np.int32),
        table[:, 3:6].astype(np.float32),
        table[:, 6:9].astype(np.float32),
        tuple(scales),
    )


def load_image(path: Path, side: int) -> Floats:
    """Read a picture as [side, side, 4] 0..1 sRGB + alpha, resampled."""
    if not path.is_file():
        raise NotFoundError(f"The asset {path.name} is missing; give a complete MakeHuman asset folder.")
    with Image.open(path) as picture:
        resized = picture.convert("RGBA").resize(
            (side, side), Image.Resampling.BOX if picture.width >= side else Image.Resampling.BICUBIC
        )
    return np.asarray(resized, np.float32) / 255.0


class MakeHumanAssets:
    """The asset folder: every file is read at most once."""

    def __init__(self, root: Path) -> None:
        self._data = root / "makehuman" / "data"
        self._extra = root / "makehuman-assets" / "base"
        if not (self._data / "3dobjs" / "base.obj").is_file():
            raise NotFoundError(
                "The asset folder has no makehuman/data/3dobjs/base.obj; "
                "give the folder that holds `makehuman` and `makehuman-assets`."
            )
        self._targets: dict[str, Target] = {}
        self._proxies: dict[str, Proxy] = {}

    @cached_property
    def base(self) -> ObjMesh:
        """The base mesh, dm; group `body` is the skin."""
        return load_obj(self._data / "3dobjs" / "base.obj")

    def target(self, name: str) -> Target:
        """The target `<region>/<name>`."""
        if name not in self._targets:
            self._targets[name] = load_target(self._data / "targets" / f"{name}.target")
        return self._targets[name]

    def target_names(self, region: str) -> list[str]:
        """Names of all targets below a region folder, sorted: `nose` -> [`nose/nose-base-down`, ...]."""
        root = self._data / "targets"
        return sorted(str(path.relative_to(root).with_suffix("")) for path in (root / region).glob("*.target"))

    def proxy(self, kind: str, name: str) -> Proxy:
        """A proxy: kind `eyes` (in the main folder), `hair`, `eyebrows`, `eyelashes`, `teeth` or `tongue`."""
        key = f"{kind}/{name}"
        if key not in self._proxies:
            root = self._data if kind == "eyes" else self._extra
            stem = root / kind / name / name
            self._proxies[key] = load_proxy(stem.with_suffix(".mhclo"), stem.with_suffix(".obj"))
        return self._proxies[key]

    def proxy_names(self, kind: str) -> list[str]:
        """Names of the proxies of a kind, sorted."""
        root = self._data if kind == "eyes" else self._extra
        return sorted(path.stem for path in (root / kind).glob("*/*.mhclo"))

    def proxy_image(self, kind: str, name: str) -> Path:
        """The colour picture beside a proxy."""
        folder = self._extra / kind / name
        choices = [
            folder / f"{name}_diffuse.png",
            folder / f"{name}.png",
            self._extra / kind / "materials" / f"{kind}.png",
        ]
        return next((path for path in choices if path.is_file()), choices[0])

    def skin_images(self) -> list[Path]:
        """Skin textures, sorted by name."""
        return sorted((self._extra / "skins" / "textures").glob("*.png"))

    def eye_images(self) -> list[Path]:
        """Eye textures, sorted by name."""
        found = [
            *(self._data / "eyes" / "materials").glob("*_eye.png"),
            *(self._extra / "eyes" / "materials").glob("*_eye.png"),
        ]
        return sorted(found, key=lambda path: path.name)

    def offset(self, vertices: Floats, name: str, weight: float) -> None:
        """Add `weight` times a target to the vertices [19158, 3], in place."""
        target = self.target(name)
        vertices[target.indices] += np.float32(weight) * target.offsets

    def support(self, names: Sequence[str]) -> Floats:
        """How far each base vertex is moved by the strongest of these targets, [19158] dm."""
        moved = np.zeros(len(self.base.vertices), np.float32)
        for name in names:
            target = self.target(name)
            moved[target.indices] = np.maximum(moved[target.indices], np.linalg.norm(target.offsets, axis=1))
        return moved


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise NotFoundError(f"The asset {path.name} is missing; give a complete MakeHuman asset folder.")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]
