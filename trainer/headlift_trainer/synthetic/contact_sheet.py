"""A picture of generated heads for people to look at: six views of each, its labels, its caption."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.captions import caption
from headlift_trainer.synthetic.generate import CAPTION_STREAM
from headlift_trainer.synthetic.render.renderer import RenderedImage
from headlift_trainer.synthetic.render.views import View, orbit_view
from headlift_trainer.synthetic.source.landmarks import drawn_brows, project_landmarks, visible_landmarks
from headlift_trainer.synthetic.source.registry import Sources
from headlift_trainer.synthetic.source.seeds import source_of

Sheet = NDArray[np.uint8]

SHOWN_DEG = ((0, 0), (45, 0), (-45, 0), (90, 0), (180, 0), (-135, 15))
LABELLED_DEG = (25, 4)
COLUMNS = len(SHOWN_DEG) + 5  # classes, normals, albedo, depth, landmarks
_GREY = 150
_LINE = 18  # px, height of a line of text
_PALETTE = np.array(
    [
        (0, 0, 0), (255, 170, 120), (240, 200, 160), (60, 110, 200), (200, 60, 130), (250, 110, 190), (110, 60, 20),
        (160, 95, 40), (0, 160, 160), (60, 220, 220), (255, 220, 90), (120, 0, 0), (200, 40, 40), (250, 90, 90),
        (90, 60, 130), (30, 30, 30), (40, 170, 60), (255, 255, 0), (180, 180, 180),
    ],
    np.uint8,
)  # fmt: skip


def contact_sheet(
    sources: Sources, seeds: Sequence[int], size: int, tick: Callable[[], object] = lambda: None
) -> Sheet:
    """One head a row: [rows, COLUMNS * size, 3]; `tick` is called after each.

    Args:
        sources: Where the heads come from.
        seeds: Of the geometries, in their first appearance.
        size: Side of a picture, pixels.
        tick: For progress.

    Raises:
        NotFoundError: A source needs an asset folder, or the folder lacks a file.
    """
    rows = []
    for seed in seeds:
        rows.append(head_row(sources, seed, size))
        tick()
    return np.concatenate(rows)


def head_row(sources: Sources, seed: int, size: int) -> Sheet:
    """One head with its labels, and two lines of text below."""
    head = sources[seed].head(seed)
    dressing = head.dress(np.random.default_rng([seed, 0]))
    renderer = dressing.renderer
    pictures = [renderer.draw(orbit_view(yaw, pitch, size), size) for yaw, pitch in SHOWN_DEG]
    view = orbit_view(*LABELLED_DEG, size)
    labelled = renderer.draw(view, size)
    tiles = [_over_grey(picture.rgba) for picture in pictures]
    tiles += [class_colors(labelled.classes), _over_grey(labelled.rgba, labelled.albedo)]
    tiles.insert(-1, _normal_colors(labelled))
    tiles += [depth_shades(labelled.depth), _marked(labelled, view, drawn_brows(renderer, head.landmarks))]
    attributes = head.attributes() | dressing.attributes
    words = caption(attributes, np.random.default_rng([seed, 0, CAPTION_STREAM]))
    return np.concatenate([np.concatenate(tiles, 1), _text(f"{source_of(seed)} {seed}: {words}", COLUMNS * size)])


def class_colors(classes: NDArray[np.uint8]) -> Sheet:
    """Classes [S, S] in colours [S, S, 3]."""
    return _PALETTE[np.minimum(classes, len(_PALETTE) - 1)]


def depth_shades(depth: Floats) -> Sheet:
    """Depth [S, S] m in greys [S, S, 3], near is bright; empty is black."""
    full = depth > 0
    if not full.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    near, far = np.quantile(depth[full], [0.0, 0.98])
    shade = 255 - 200 * np.clip((depth - near) / max(far - near, 1e-6), 0, 1)
    return np.repeat(np.where(full, shade, 0).astype(np.uint8)[..., None], 3, -1)


def _over_grey(rgba: NDArray[np.uint8], premultiplied: NDArray[np.uint8] | None = None) -> Sheet:
    front = rgba[..., :3] if premultiplied is None else premultiplied
    return np.asarray(front + ((255 - rgba[..., 3:]) / 255 * _GREY).astype(np.uint8), np.uint8)


def _normal_colors(picture: RenderedImage) -> Sheet:
    return np.where(picture.rgba[..., 3:] > 0, picture.normals.astype(np.int16) + 128, 0).astype(np.uint8)


def _marked(picture: RenderedImage, view: View, landmarks: Floats) -> Sheet:
    """Landmarks over the picture: green where they are seen, red where something hides them."""
    drawn = np.ascontiguousarray(_over_grey(picture.rgba))
    pixels, depths = project_landmarks(landmarks, view)
    seen = visible_landmarks(pixels, depths, view, picture.depth)
    radius = max(1, len(drawn) // 200)
    for (x, y), visible in zip(pixels, seen, strict=True):
        if np.isfinite(x) and np.isfinite(y):
            cv2.circle(drawn, (int(x), int(y)), radius, (40, 255, 40) if visible else (255, 40, 40), -1)
    return drawn


def _text(words: str, width: int) -> Sheet:
    """Two lines of text, [2 * _LINE, width, 3]."""
    strip = Image.new("RGB", (width, 2 * _LINE), (24, 24, 24))
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size=14)
    for row, line in enumerate(textwrap.wrap(words, max(20, width // 8))[:2]):
        pen.text((6, 1 + row * _LINE), line, fill=(235, 235, 235), font=font)
    return np.asarray(strip)
