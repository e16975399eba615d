"""Classical matting: GrabCut with a head-and-shoulders prior, then a soft edge from local colours.

A learned matter replaces this behind the same protocol. What is baked into geometry later is everything that the
matte lets through, so doubtful pixels are rather left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.geometry.crop import BOX_CENTER, BOX_SIDE
from headlift.stages.preprocess.interfaces import HeadMaps
from headlift.stages.preprocess.matte.filters import box_mean, guided_filter, spread

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Prior:
    """Where a person can be, on the working grid."""

    foreground: Bool  # the inner face and the middle of the chest
    likely_foreground: Bool  # head with usual hair, neck, shoulders
    background: Bool  # what neither hair nor shoulders reach
    body: Bool  # neck and shoulders


# distances to a plain background's colour, of 255: sure to belong to it, sure not to
_BACKGROUND_DISTANCE, _FOREGROUND_DISTANCE = 9.0, 24.0
_PLAIN_DEVIATION = 6.0  # a background whose colours stray less from their own blur is plain, of 255


@dataclass(frozen=True)
class GrabCutMatter:
    """GrabCut on a small picture, refined on the full one.

    Thread safe and deterministic: OpenCV's generator is seeded in the calling thread before each cut.
    """

    working_side: int = 256  # pixels of the longer side while cutting
    rounds: int = 3

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float], maps: HeadMaps | None = None) -> F32:
        """Opacity [h, w] 0..1 of the person whose face is in ``face_box``; see ``Matter.matte``."""
        small, _, prior = working_picture(rgb, face_box, self.working_side)
        person = _one_piece(self._cut(small, prior), prior)
        return soften(rgb, person)

    def _cut(self, small: U8, prior: Prior) -> Bool:
        """Binary person on the working grid."""
        labels = np.where(prior.likely_foreground, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        ground, other = key_plain_background(small, prior.background)
        labels[other] = cv2.GC_PR_FGD
        labels[ground] = cv2.GC_BGD
        labels[prior.foreground] = cv2.GC_FGD
        labels[prior.background] = cv2.GC_BGD
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))  # OpenCV's own layout of its colour models
        cv2.grabCut(small, labels, (0, 0, 1, 1), *models, self.rounds, cv2.GC_INIT_WITH_MASK)
        return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.bool_)


def working_picture(rgb: U8, face_box: tuple[float, float, float, float], working_side: int) -> tuple[U8, float, Prior]:
    """A picture at most ``working_side`` pixels long, its face's width in its pixels, and where a person can be."""
    height, width = rgb.shape[:2]
    scale = min(1.0, working_side / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    x0, y0, x1, y1 = (v * scale for v in face_box)
    return small, x1 - x0, prior_of(small.shape[:2], ((x0 + x1) / 2, (y0 + y1) / 2), x1 - x0)


def prior_of(shape: tuple[int, int], center: tuple[float, float], side: float) -> Prior:
    """Head and shoulders of an average adult, in metres around the face box."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x = (columns + 0.5 - center[0]) * (BOX_SIDE / side)
    y = BOX_CENTER[1] - (rows + 0.5 - center[1]) * (BOX_SIDE / side)

    def ellipse(cy: float, half_width: float, half_height: float) -> Bool:
        return np.asarray((x / half_width) ** 2 + ((y - cy) / half_height) ** 2 < 1.0)

    torso = (y < -0.15) & (np.abs(x) < 0.04 + (-0.15 - y) * 0.8)
    foreground = ellipse(0.0, 0.042, 0.07) | torso
    neck = (np.abs(x) < 0.055) & (y < -0.02) & (y > -0.15)
    shoulders = (y < -0.12) & (np.abs(x) < 0.06 + (-0.12 - y) * 1.6)
    likely_foreground = ellipse(0.045, 0.105, 0.125) | neck | shoulders
    background = ((np.abs(x) > 0.20) & (y > -0.08)) | (y > 0.24) | ((np.abs(x) > 0.27) & (y > -0.12))
    return Prior(foreground, likely_foreground, background & ~foreground, neck | shoulders)


def key_plain_background(small: U8, background: Bool) -> tuple[Bool, Bool]:
    """Pixels that surely belong to a plain or smoothly shaded background, and those that surely do not.

    Where the background is not plain, or hardly visible, both are empty. A shadow on the wall is neither: darker, but
    of the wall's hue.
    """
    nothing = np.zeros(background.shape, np.bool_)
    if background.mean() < 0.02:
        return nothing, nothing
    colours = small.astype(np.float32)
    ground = spread(colours, background.astype(np.float32), max(background.shape) // 16)
    distance = np.abs(colours - ground).max(-1)
    if float(np.percentile(distance[background], 90)) > _PLAIN_DEVIATION:
        return nothing, nothing
    shade = (colours * ground).sum(-1) / np.maximum((ground * ground).sum(-1), 1.0)
    beyond_shadow = np.abs(colours - np.clip(shade, 0.5, 1.1)[..., None] * ground).max(-1)
    return np.asarray(distance < _BACKGROUND_DISTANCE), np.asarray(beyond_shadow > _FOREGROUND_DISTANCE)


def _one_piece(person: Bool, prior: Prior) -> Bool:
    """The parts that hold face and chest, opened at thin bridges, without holes."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, kernel) | prior.foreground.astype(np.uint8)
    _, parts = cv2.connectedComponents(opened, connectivity=4)
    counts = np.bincount(parts[prior.foreground])
    piece = np.isin(parts, np.flatnonzero(counts > 0.05 * prior.foreground.sum())) & (opened > 0)
    outside = np.pad((~piece).astype(np.uint8), 1, constant_values=1)
    outside[-1] = 0  # a gap that is open only at the bottom (between arm and body) is still background
    _, gaps = cv2.connectedComponents(outside, connectivity=4)
    return np.asarray((gaps[1:-1, 1:-1] != gaps[0, 0]) | piece, np.bool_)


def soften(rgb: U8, person: Bool) -> F32:
    """A soft edge: inside a band, how far each pixel's colour lies from background towards person."""
    height, width = rgb.shape[:2]
    reach = max(2, round(max(height, width) / 90))
    mask = np.asarray(cv2.resize(person.astype(np.float32), (width, height)), np.float32)
    near = box_mean(mask, reach)
    inside, outside = (near > 0.97).astype(np.float32), (near < 0.03).astype(np.float32)
    colours = rgb.astype(np.float32) / 255.0
    ground_colour = _spread_coarsely(colours, outside, 2 * reach)
    axis = _spread_coarsely(colours, inside, 2 * reach) - ground_colour
    length = (axis * axis).sum(-1)
    along = ((colours - ground_colour) * axis).sum(-1) / np.maximum(length, 1e-4)
    grey = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.float32)
    smooth = guided_filter(grey, mask, reach, 1e-4)
    trust = np.clip(length / 0.15, 0.0, 1.0) * 0.7  # where both sides are alike colour decides nothing
    band = trust * np.clip(along, 0.0, 1.0) + (1.0 - trust) * smooth
    band = band * np.clip(near * 2.5, 0.0, 1.0)
    alpha = np.clip((band - 0.2) / 0.65, 0.0, 1.0)
    return np.asarray(np.where(inside > 0, 1.0, np.where(outside > 0, 0.0, alpha)), np.float32)


def _spread_coarsely(colours: F32, known: F32, radius: int) -> F32:
    """``spread`` at a quarter of the resolution: its result is smooth and the cost matters."""
    height, width = known.shape
    size = max(1, width // 4), max(1, height // 4)
    weights = np.asarray(cv2.resize(known, size, interpolation=cv2.INTER_AREA), np.float32)
    # weighted before shrinking, so that unknown colours do not bleed in
    mean = (
        cv2.resize(colours * known[..., None], size, interpolation=cv2.INTER_AREA)
        / np.maximum(weights, 1e-6)[..., None]
    )
    coarse = spread(np.asarray(mean, np.float32), weights, max(1, radius // 4))
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
