"""Contact sheets of samples, with the head's axes and box drawn by the samples' own cameras.

A box that sits askew on the head shows a wrong head frame at a glance; axes that disagree between views a wrong camera.

Legend: C views, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from headlift.model.types import HEAD_CENTER, Cameras
from headlift_trainer.datasets.interface import F64, HeadDataset, PictureSample

TILE = 224  # pixels a side
_BAND = 16  # for a row's title
_BACKGROUND, _TEXT = (70, 74, 80), (235, 235, 235)
_AXIS = 0.06  # m
_COLORS = ((255, 70, 70), (80, 230, 90), (90, 150, 255))  # X the head's left, Y up, Z out of the face
_LOW, _HIGH = (-0.078, -0.085, -0.105), (0.078, 0.135, 0.092)  # m, a bald adult head
_EDGES = [(a, a | bit) for a in range(8) for bit in (1, 2, 4) if not a & bit]


def draw_samples(dataset: HeadDataset, count: int, path: Path, *, targets: int = 3, seed: int = 0) -> int:
    """Write a sheet of `count` random items, one a row; returns how many could be drawn.

    Raises:
        FormatError: An item is broken.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(dataset))[:count]
    samples = [dataset.sample(int(row), rng, targets) for row in rows]
    if samples:
        sheet_of(samples).save(path)
    return len(samples)


def sheet_of(samples: Sequence[PictureSample]) -> Image.Image:
    """The sheet: the bare input, then every target with axes and box."""
    width = TILE * (1 + max(len(sample.targets) for sample in samples))
    sheet = Image.new("RGB", (width, (TILE + _BAND) * len(samples)), _BACKGROUND)
    for row, sample in enumerate(samples):
        top = row * (TILE + _BAND)
        ImageDraw.Draw(sheet).text((3, top + 2), f"{sample.subject}: {', '.join(sample.views)}", fill=_TEXT)
        sheet.paste(_tile(sample.picture), (0, top + _BAND))
        for column, target in enumerate(sample.targets):
            tile = _tile(target)
            _annotate(tile, sample.target_cameras[column].resized(TILE, TILE))
            sheet.paste(tile, ((column + 1) * TILE, top + _BAND))
    return sheet


def project(points: F64, camera: Cameras) -> F64:
    """Pixels [n, 2] of places [n, 3] of the head frame."""
    viewmat, K = camera.viewmats[0].double().numpy(), camera.Ks[0].double().numpy()
    cast = (points @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.T
    return np.asarray(cast[:, :2] / cast[:, 2:])


def _tile(rgba: Tensor) -> Image.Image:
    """A premultiplied picture over grey."""
    grey = rgba.new_tensor(_BACKGROUND)[:, None, None] / 255
    rgb = (rgba[:3] + (1 - rgba[3:]) * grey).clamp(0, 1)
    picture = Image.fromarray((rgb.permute(1, 2, 0) * 255 + 0.5).byte().numpy())
    return picture.resize((TILE, TILE), Image.Resampling.BOX if rgba.shape[-1] >= TILE else Image.Resampling.BILINEAR)


def _annotate(tile: Image.Image, camera: Cameras) -> None:
    pen = ImageDraw.Draw(tile)
    corners = np.array([[(_LOW, _HIGH)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)])
    at = project(corners, camera)
    for a, b in _EDGES:
        pen.line([*at[a], *at[b]], fill=(200, 200, 120), width=1)
    center = np.array(HEAD_CENTER)
    axes = project(np.concatenate([center[None], center + _AXIS * np.eye(3)]), camera)
    for axis, color in enumerate(_COLORS):
        pen.line([*axes[0], *axes[axis + 1]], fill=color, width=3)
