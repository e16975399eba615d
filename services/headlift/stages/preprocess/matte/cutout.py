"""A person cut out once, on a window wider than the crop, so that better crops need no second matte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from headlift.stages.preprocess.geometry.crop import face_box_in_crop, project_frontal
from headlift.stages.preprocess.geometry.resample import compose, invert, visible_part, warp
from headlift.stages.preprocess.interfaces import HeadMaps, Matter
from headlift.stages.preprocess.matte.filters import decontaminate

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_WINDOW = 1.5  # sides of the crop
_OPAQUE_RING = 0.85  # share of the ring around the head that is opaque in an alpha that is no matte


@dataclass(frozen=True)
class Cutout:
    """A picture with the opacity of its person."""

    rgb: U8  # [H, W, 3] the picture
    own_alpha: U8 | None  # [H, W] the picture's own alpha, where it is used
    window_alpha: F32  # [w, w] opacity on the window; 1 where only ``own_alpha`` counts
    window_from_picture: F64  # [2, 3]
    alpha_was_no_matte: bool
    size: int  # side of crops, pixels

    @classmethod
    def of(
        cls,
        rgb: U8,
        alpha: U8 | None,
        crop_from_picture: F64,
        size: int,
        matter: Matter,
        maps: HeadMaps | None = None,
    ) -> Cutout:
        """Matte the window around a crop, unless the picture's alpha already is a matte.

        Args:
            rgb: [H, W, 3] picture.
            alpha: [H, W] its alpha, or None.
            crop_from_picture: [2, 3] map to the crop.
            size: Side of the crop, pixels.
            matter: Used where alpha is missing or leaves the background in.
            maps: What the detector measured of this head, in pixels of ``rgb``.
        """
        margin = round(size * (_WINDOW - 1.0) / 2)
        side = size + 2 * margin
        shift = np.array([[1.0, 0.0, margin], [0.0, 1.0, margin]])
        onto = compose(shift, crop_from_picture)
        visible = warp(np.full(rgb.shape[:2], 255, np.uint8), onto, (side, side)).astype(np.float32) / 255.0
        no_matte = alpha is not None and _is_full(warp(alpha, onto, (side, side)), visible, margin, size)
        opacity = np.ones((side, side), np.float32)
        if alpha is None or no_matte:
            window = warp(rgb, onto, (side, side), replicate=True)
            opacity = _matted(window, visible, margin, size, matter, None if maps is None else maps.moved(onto))
        return cls(rgb, alpha, opacity, onto, no_matte, size)

    def at(self, crop_from_picture: F64) -> tuple[Tensor, Tensor]:
        """The crop on black and its opacity.

        Args:
            crop_from_picture: [2, 3] map to a crop near the one that the cutout was made for.

        Returns:
            image [3, S, S] and alpha [1, S, S], float32 0..1.
        """
        shape = (self.size, self.size)
        from_window = compose(crop_from_picture, invert(self.window_from_picture))
        alpha = np.clip(warp(self.window_alpha, from_window, shape), 0.0, 1.0).astype(np.float32)
        if self.own_alpha is None:
            colours = warp(self.rgb, crop_from_picture, shape, replicate=True).astype(np.float32) / 255.0
            image = decontaminate(colours, alpha, max(2, self.size // 85)) * alpha[..., None]
        else:
            warped = self._premultiplied(self.own_alpha, crop_from_picture)
            image = np.minimum(warped[..., :3], warped[..., 3:])
            if self.alpha_was_no_matte:
                image, alpha = image * alpha[..., None], warped[..., 3] * alpha
            else:
                alpha = warped[..., 3]
        chw = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))
        return chw, torch.from_numpy(np.ascontiguousarray(alpha[None], np.float32))

    def _premultiplied(self, own_alpha: U8, crop_from_picture: F64) -> F32:
        """[S, S, 4] colours times alpha, and alpha: colours below transparent pixels can be anything."""
        shape = (self.size, self.size)
        x0, y0, x1, y1 = visible_part(crop_from_picture, shape, (self.rgb.shape[1], self.rgb.shape[0]))
        opaque = own_alpha[y0:y1, x0:x1, None].astype(np.float32) / 255.0
        stacked = np.concatenate([self.rgb[y0:y1, x0:x1] * (opaque / 255.0), opaque], -1).astype(np.float32)
        onto = compose(crop_from_picture, np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]]))
        return np.asarray(np.clip(warp(stacked, onto, shape), 0.0, 1.0), np.float32)


def _matted(window: U8, visible: F32, margin: int, size: int, matter: Matter, maps: HeadMaps | None) -> F32:
    """Opacity of a window, matted on the part that the picture shows.

    Hair continued beyond the border would count as background; only downwards the continuation is right, for there the
    chest goes on.
    """
    rows, columns = (np.flatnonzero((visible > 0.5).any(axis)) for axis in (1, 0))
    top, bottom, left, right = int(rows[0]), len(window), int(columns[0]), int(columns[-1]) + 1
    x0, y0, x1, y1 = (v + margin for v in face_box_in_crop(size))
    box = (x0 - left, y0 - top, x1 - left, y1 - top)
    opacity = np.zeros_like(visible)
    part = np.ascontiguousarray(window[top:bottom, left:right])
    part_maps = None if maps is None else maps.moved(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]))
    opacity[top:bottom, left:right] = matter.matte(part, box, part_maps)
    return opacity * visible


def _is_full(alpha: U8, visible: F32, margin: int, size: int) -> bool:
    """Is an alpha opaque nearly everywhere around the head, as in a picture with rounded corners?"""
    rows, columns = np.mgrid[: alpha.shape[0], : alpha.shape[1]]
    x, y = (columns + 0.5 - margin) / size, (rows + 0.5 - margin) / size
    cx, cy = project_frontal((0.0, 0.045, 0.0))
    outside = ((x - cx) / 0.36) ** 2 + ((y - cy) / 0.42) ** 2 > 1.0
    ring = outside & (y < 0.62) & (x > 0.02) & (x < 0.98) & (visible > 0.5)
    if ring.mean() < 0.01:
        return False
    return float((alpha[ring] > 128).mean()) > _OPAQUE_RING
