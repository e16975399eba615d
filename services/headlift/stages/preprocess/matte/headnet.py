"""A learned matter for heads: HeadNet's coarse matte, made exact by the image's colours.

HeadNet's matte is coarse (96 pixels across the crop) but right about what is hair and what is the wall behind it;
GrabCut is exact but needs seeds. So the one's confident pixels are the other's seeds, and the border between them gets
the soft edge of ``matte``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from headlift.stages.preprocess.detect.headnet import ACCEPT, SIDE, HeadNetDetector
from headlift.stages.preprocess.geometry.crop import crop_from_face
from headlift.stages.preprocess.geometry.resample import compose, invert, scale_of, warp
from headlift.stages.preprocess.interfaces import Face, HeadMaps
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter, Prior, key_plain_background, soften, working_picture

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_FOREGROUND_SEED, _BACKGROUND_SEED = 0.9, 0.1  # HeadNet's opacities beyond which a pixel is a seed
SEED_MARGIN_M = 0.008  # m; nearer to HeadNet's border nothing is a seed
_WINDOW_M = 0.40  # m across the portrait crop
_CROP_SIDE = SIDE // 2  # pixels of HeadNet's matte


@dataclass(frozen=True)
class HeadNetMatter:
    """HeadNet's matte made exact by GrabCut. Thread safe and deterministic, as ``GrabCutMatter`` is."""

    headnet: HeadNetDetector
    classical: GrabCutMatter = field(default_factory=GrabCutMatter)
    working_side: int = 256  # pixels of the longer side while cutting
    rounds: int = 2

    def matte(self, rgb: U8, face_box: tuple[float, float, float, float], maps: HeadMaps | None = None) -> F32:
        """Opacity [h, w] 0..1 of the person whose face is in ``face_box``; see ``Matter.matte``."""
        if maps is None:
            frame = crop_from_face(Face(face_box, 1.0), 1)
            (detection,) = self.headnet.detect(rgb, [frame])
            if detection.score < ACCEPT:  # without a detection its matte is worth nothing
                return self.classical.matte(rgb, face_box)
            maps = HeadMaps(frame, detection.alpha)
        small, _, prior = working_picture(rgb, face_box, self.working_side)
        size = small.shape[1], small.shape[0]
        onto_crop = np.diag([len(maps.alpha)] * 2) @ compose(
            maps.frame, np.diag([rgb.shape[1] / size[0], rgb.shape[0] / size[1], 1.0])[:2]
        )
        rough = _on_picture(maps.alpha, onto_crop, size)
        reach = max(1, round(SEED_MARGIN_M / _WINDOW_M * _CROP_SIDE / scale_of(onto_crop)))
        person = cut_from_seeds(small, rough, _within(maps.alpha, onto_crop, size), prior, reach, self.rounds)
        return soften(rgb, person)


def cut_from_seeds(small: U8, rough: F32, within: Bool, prior: Prior, reach: int, rounds: int) -> Bool:
    """The person in a small picture, cut by GrabCut from the seeds that a rough matte gives.

    Args:
        small: [h, w, 3].
        rough: [h, w] 0..1.
        within: [h, w] where ``rough`` says something.
        prior: Where a person can be.
        reach: Nearer to the border of ``rough`` nothing is a seed, pixels.
        rounds: Of GrabCut.
    """
    labels = _labelled(small, rough, within, prior, reach)
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))  # OpenCV's own layout of its colour models
    cv2.grabCut(small, labels, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK)
    return _solid(np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), np.bool_), rough, prior)


def _labelled(small: U8, rough: F32, within: Bool, prior: Prior, reach: int) -> U8:
    """GrabCut's seeds: where HeadNet and the shape of a person agree, and what one has and the other allows.

    To HeadNet black clothes are like the black that mattes leave, so below the chin it seeds no background.
    """
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    person = within & (cv2.erode(rough, kernel) > _FOREGROUND_SEED)
    ground = within & (cv2.dilate(rough, kernel) < _BACKGROUND_SEED)
    hinted = np.where(within, rough > 0.5, prior.likely_foreground)
    labels = np.where(hinted, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    plain, other = key_plain_background(small, prior.background & ~person)
    labels[other & ~ground] = cv2.GC_PR_FGD
    labels[(ground & ~prior.body) | prior.background | plain] = cv2.GC_BGD
    labels[prior.foreground & ground] = cv2.GC_PR_FGD
    labels[person | (prior.foreground & ~ground)] = cv2.GC_FGD
    return labels


def _on_picture(alpha: F32, onto_crop: F64, size: tuple[int, int]) -> F32:
    """A crop's matte [h, h] on the picture; past the crop's border its last row and columns go on."""
    return np.asarray(np.clip(warp(alpha, invert(onto_crop), size, replicate=True), 0.0, 1.0), np.float32)


def _within(alpha: F32, onto_crop: F64, size: tuple[int, int]) -> Bool:
    """Which pixels of the picture the crop covers."""
    return np.asarray(warp(np.ones_like(alpha), invert(onto_crop), size) > 0.5)


def _solid(person: Bool, rough: F32, prior: Prior) -> Bool:
    """Without specks beside the person, and without holes that HeadNet does not have either."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    opened = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_OPEN, kernel) | prior.foreground.astype(np.uint8)
    _, parts = cv2.connectedComponents(opened, connectivity=4)
    sizes = np.bincount(parts.ravel())
    kept = np.isin(parts, np.flatnonzero(sizes > 0.1 * sizes[1:].max(initial=1))) & (opened > 0)
    _, gaps = cv2.connectedComponents((~kept).astype(np.uint8), connectivity=4)
    mean_alpha = np.bincount(gaps.ravel(), rough.ravel()) / np.maximum(np.bincount(gaps.ravel()), 1)
    return np.asarray(kept | np.isin(gaps, np.flatnonzero(mean_alpha > 0.6)), np.bool_)
