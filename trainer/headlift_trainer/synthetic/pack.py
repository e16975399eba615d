"""Shrink an asset folder: the same layout, only what the generator reads, pictures no finer than it uses them.

Heads come out with the same geometry; their textures differ by no more than a rounding of resampled pictures.
Licences and read-mes travel with the data. `headlift synth pack` is the command.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headlift.errors import ConflictError, FormatError, NotFoundError
from headlift_trainer.synthetic.base.assets import MakeHumanAssets
from headlift_trainer.synthetic.base.identity import DETAIL_REGIONS
from headlift_trainer.synthetic.base.topology import Topology

LIMIT_BYTES = 40_000_000
_PROXIES = ("hair", "eyebrows", "eyelashes", "teeth", "tongue")
# Sides at which the generator's atlas takes them.
_SIDES = {"skins": 1024, "hair": 512}
_SIDE = 256
_MACRO = re.compile(
    r"(african|asian|caucasian)-(female|male)-(child|young|old)"
    r"|universal-(female|male)-(child|young|old)-averagemuscle-(minweight|averageweight|maxweight)"
)
# Details that move the whole head are never drawn (see `base.identity.sample_details`).
_UNUSED = re.compile(r"head-(trans|angle|age)|neck-trans|chin-jaw-drop")
_LOWEST_M = -0.30  # below, no skin is ever seen
_MARGIN_PX = 8


@dataclass(frozen=True)
class Packed:
    """What came of it."""

    files: int
    bytes_before: int
    bytes_after: int


def pack(root: Path, out: Path, tick: Callable[[], object] = lambda: None) -> Packed:
    """Write a small copy of the asset folder `root` to `out`; `tick` is called after each file.

    Raises:
        NotFoundError: A file is missing.
        FormatError: A file does not parse.
        ConflictError: `out` exists and holds something.
    """
    if out.exists() and any(out.iterdir()):
        raise ConflictError(f"{out.name} is not empty; name a new folder.")
    assets = MakeHumanAssets(root)
    seen = seen_texels(Topology(assets), _SIDES["skins"])
    files = list(dict.fromkeys(_wanted(root)))
    for path in files:
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        _shrink(path, target, seen)
        tick()
    before = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return Packed(len(files), before, sum((out / path.relative_to(root)).stat().st_size for path in files))


def seen_texels(topology: Topology, side: int) -> NDArray[np.bool_]:
    """[side, side] where the skin's texture can be seen on a bust, first line on top."""
    mask = np.zeros((side, side), np.uint8)
    high = topology.mean[topology.triangles][:, :, 1].max(1) > _LOWEST_M
    corners = topology.corner_uvs[high] * np.array([side, -side]) + np.array([0, side])
    cv2.fillPoly(mask, list(np.round(corners).astype(np.int32)), 1)
    grown = cv2.dilate(mask, np.ones((2 * _MARGIN_PX + 1, 2 * _MARGIN_PX + 1), np.uint8))
    return np.asarray(grown > 0)


def _wanted(root: Path) -> Iterator[Path]:
    """The files that the generator reads, and what says where they are from."""
    for folder in (root, *(root / name for name in ("makehuman", "makehuman-assets", "ict-facekit"))):
        yield from sorted(
            path for path in folder.glob("*") if re.match(r"LICEN[CS]E|README|COPYING", path.name.upper())
        )
    data, extra = root / "makehuman/data", root / "makehuman-assets/base"
    yield data / "3dobjs/base.obj"
    targets = data / "targets"
    yield from sorted(path for path in (targets / "macrodetails").glob("*.target") if _MACRO.fullmatch(path.stem))
    for region in DETAIL_REGIONS:
        yield from sorted(path for path in (targets / region).glob("*.target") if not _UNUSED.match(path.stem))
    yield from sorted((targets / "expression/units").glob("*/*.target"))
    yield from sorted((data / "eyes/high-poly").glob("high-poly.*"))
    for kind in _PROXIES:
        for tied in sorted((extra / kind).glob("*/*.mhclo")):
            yield tied
            yield tied.with_suffix(".obj")
    pictures = MakeHumanAssets(root)
    for kind in _PROXIES:
        yield from (pictures.proxy_image(kind, name) for name in pictures.proxy_names(kind))
    yield from (path for path in pictures.skin_images() if "suit" not in path.stem)
    yield from pictures.eye_images()
    kit = root / "ict-facekit"
    yield from (path for path in (kit / "ict_light.npz", kit / "vertex_indices.json") if path.is_file())


def _shrink(path: Path, target: Path, seen: NDArray[np.bool_]) -> None:
    if not path.is_file():
        raise NotFoundError(f"The asset {path.name} is missing; give a complete asset folder.")
    if path.suffix == ".png":
        _shrink_image(path, target, seen)
    elif path.suffix == ".npz":
        _recompress(path, target)
    elif path.suffix in (".obj", ".mhclo", ".target"):
        _shrink_text(path, target)
    else:
        shutil.copyfile(path, target)


def _shrink_image(path: Path, target: Path, seen: NDArray[np.bool_]) -> None:
    """Resampled as `base.assets.load_image` would; of skins only what can be seen."""
    kind = path.parents[1].name
    side = _SIDES.get(kind, _SIDE)
    with Image.open(path) as picture:
        small = picture.copy()
    if small.mode not in ("RGB", "RGBA"):
        small = small.convert("RGBA")
    if small.width > side:
        small = small.resize((side, side), Image.Resampling.BOX)
    if kind == "skins" and small.size == (side, side):
        values = np.asarray(small).copy()
        values[~seen] = np.median(values[seen], axis=0).astype(np.uint8)
        small = Image.fromarray(values)
    small.save(target, "png", optimize=True)


def _recompress(path: Path, target: Path) -> None:
    """The same arrays, byte for byte, in a denser zip that numpy reads as well."""
    try:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
    except zipfile.BadZipFile as error:
        raise FormatError(f"{path.name} is not a readable archive ({error}); fetch the asset again.") from error


def _shrink_text(path: Path, target: Path) -> None:
    """Without normals, smoothing and empty lines, which nothing reads; comments, and with them licences, stay."""
    dropped = ("vn", "s", "usemtl", "mtllib") if path.suffix == ".obj" else ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line.strip() for line in lines if line.strip() and line.split()[0] not in dropped]
    target.write_text("\n".join(kept) + "\n", encoding="utf-8")
