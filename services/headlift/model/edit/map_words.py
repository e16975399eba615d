"""Words that are shapes, painted into a map: "long hair", "curly hair", "bald", "a hat", "glasses" (ours).

A style moves no geometry, as in the paper. Words for shapes therefore go into the map, where
people see what they did and paint on. Hair grows and shrinks by the difference between typical outlines, so that it
stays this person's hair; what is put on has the outline of a typical one, fitted between the eyes.

Fields are signed distances to an outline, in sides of the picture, positive inside.

Legend: Y views (from the front, and from 45 degrees to the person's left), L lengths of hair, C curls, W things to
wear, S side of a field, H side of a map.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LENGTHS = ("bald", "short", "medium", "long")
CURLS = ("straight", "curly")
WORN = (("hat", "hat"), ("glasses", "glasses"), ("glasses", "sunglasses"))  # group and value
REACH = 0.25  # distances are cut here
SIDE = 128
SIDE_YAW = 45.0  # degrees of the second view
YAW_MAX = 75.0  # beyond it an eye is hidden, and nothing places things
_COMPARED_BAND = 0.08  # lengths differ close to their outlines
_MAX_OVERHANG = 0.02  # how far hair that was cut may stand out from the typical outline
_MIN_DEPTH = 0.012  # how far inside the typical outline hair may cover a face
_MIN_HAT_SHARE = 0.003  # share of the map below which a hat is a mistake of the parsing
_HAIR, _GLASSES, _HAT, _FACE = 14, 15, 16, 2
_RIGHT_EYE, _LEFT_EYE = 8, 9
_BODY = (1, 2, 3, 4, 5)  # neck, face, cloth, ears: what is behind hair
_UNDER_HAIR = (0, 1, 3, 4, 5, 17, 18)  # what hair may fall over anywhere
_UNDER_GLASSES = (2, 4, 5, 6, 7, 8, 9, 10)
_UNDER_HAT = (0, 1, 2, 4, 5, 6, 7, 14, 17)
_SWAP = np.arange(256, dtype=np.uint8)
_SWAP[[4, 5, 6, 7, 8, 9]] = 5, 4, 7, 6, 9, 8


class MapWords(nn.Module):
    """Typical outlines, fitted on generated heads (headlift_trainer.editing.outlines)."""

    def __init__(self) -> None:
        super().__init__()
        self.hair: Tensor  # [Y, L, S, S] of heads whose hair has this length
        self.curls: Tensor  # [Y, C, L - 1, S, S] likewise of straight and of curly hair, bald heads apart
        self.head: Tensor  # [Y, S, S] of what is there without hair
        self.eyes: Tensor  # [Y, 2, 2] where right and left eye lie in these, x and y in sides of the picture
        self.worn: Tensor  # [Y, W, S, S] of a typical one
        self.worn_eyes: Tensor  # [Y, W, 2, 2] where the eyes of its wearer lie
        self.register_buffer("hair", torch.full((2, len(LENGTHS), SIDE, SIDE), -REACH))
        self.register_buffer("curls", torch.full((2, len(CURLS), len(LENGTHS) - 1, SIDE, SIDE), -REACH))
        self.register_buffer("head", torch.full((2, SIDE, SIDE), -REACH))
        self.register_buffer("eyes", torch.zeros(2, 2, 2))
        self.register_buffer("worn", torch.full((2, len(WORN), SIDE, SIDE), -REACH))
        self.register_buffer("worn_eyes", torch.zeros(2, len(WORN), 2, 2))

    def paint(self, labels: U8, named: Mapping[str, str], yaw_deg: float, strength: float = 1.0) -> U8:
        """The map with the shapes that words name.

        Args:
            labels: [H, H] 0..18.
            named: Group -> value, as texts name them; groups that are no shapes are passed over.
            yaw_deg: Of the map's camera; see ``orbit_camera``. Beyond ``YAW_MAX`` nothing is painted.
            strength: Share of the way for hair; things are put on or off from 0.5 on.

        Returns:
            [H, H]; ``labels`` itself where nothing is to be done.
        """
        if abs(yaw_deg) > YAW_MAX or not labels.any():
            return labels
        if yaw_deg < 0:  # the fields show the person's left
            mirrored = _SWAP[np.ascontiguousarray(labels[:, ::-1])]
            result = self.paint(mirrored, named, -yaw_deg, strength)
            return labels if result is mirrored else _SWAP[np.ascontiguousarray(result[:, ::-1])]
        out = labels
        side = min(yaw_deg / SIDE_YAW, 1.0)
        if (length := named.get("hair length")) in LENGTHS:
            out = self._with_length(out, LENGTHS.index(length), side, strength)
        if (curl := named.get("curl")) in CURLS:
            out = self._with_curl(out, CURLS.index(curl), side, strength)
        if strength >= 0.5:
            for group in ("hat", "glasses"):
                if group in named:
                    out = self._with_accessory(out, group, named[group], side)
        return out

    def _with_length(self, labels: U8, target_index: int, side: float, strength: float) -> U8:
        """Hair of another length."""
        fit = _fit(eyes_of(labels), _mixed(self.eyes, side))
        fields = [_sampled(_mixed(self.hair[:, i], side), fit, len(labels)) for i in range(len(LENGTHS))]
        current = signed_distance(labels == _HAIR)
        near = [np.abs(_near(current) - _near(field)).mean() for field in fields]
        current_index = int(np.argmin(near))
        if current_index == target_index:
            return labels
        typical = fields[target_index]
        target = current + (typical - fields[current_index])
        # The difference alone would leave a mop of a mane, and holes in what was thin: the typical outline is a bound.
        target = (
            np.maximum(target, typical) if target_index > current_index else np.minimum(target, typical + _MAX_OVERHANG)
        )
        hair = current + strength * (target - current) > 0
        over = np.isin(labels, _UNDER_HAIR) | (np.isin(labels, (2, 6, 7)) & (typical > _MIN_DEPTH))
        out = np.where(hair & over, np.uint8(_HAIR), labels)
        removed = (labels == _HAIR) & ~hair
        return _fill_uncovered(out, removed, _sampled(_mixed(self.head, side), fit, len(labels)) > 0, _BODY)

    def _with_curl(self, labels: U8, target_index: int, side: float, strength: float) -> U8:
        """Hair of the same length that stands out as curly hair does, or lies as straight hair does."""
        fit = _fit(eyes_of(labels), _mixed(self.eyes, side))
        current = signed_distance(labels == _HAIR)
        fields = [_sampled(_mixed(self.hair[:, i], side), fit, len(labels)) for i in range(1, len(LENGTHS))]
        length = int(np.argmin([np.abs(_near(current) - _near(field)).mean() for field in fields]))
        both = self.curls[:, :, length]
        fitted = bool((both.amax((2, 3)) > -REACH).all())  # were there such heads to fit outlines on?
        if not fitted or not (labels == _HAIR).any():
            return labels
        other, typical = (
            _sampled(_mixed(both[:, i], side), fit, len(labels)) for i in (1 - target_index, target_index)
        )
        target = current + (typical - other)
        # Curls only stand out, straight hair only lies closer, and neither goes past what is typical of it.
        curly = CURLS[target_index] == "curly"
        target = (
            np.maximum(current, np.minimum(target, typical + _MAX_OVERHANG))
            if curly
            else np.minimum(current, np.maximum(target, typical - _MAX_OVERHANG))
        )
        hair = current + strength * (target - current) > 0
        out = np.where(hair & np.isin(labels, _UNDER_HAIR), np.uint8(_HAIR), labels)
        removed = (labels == _HAIR) & ~hair
        if (out == labels).all() and not removed.any():
            return labels
        return _fill_uncovered(out, removed, _sampled(_mixed(self.head, side), fit, len(labels)) > 0, _BODY)

    def _with_accessory(self, labels: U8, group: str, value: str, side: float) -> U8:
        """A hat or glasses put on, off, or changed."""
        label = _HAT if group == "hat" else _GLASSES
        bare = self._without_accessory(labels, label, side)
        if (group, value) not in WORN:
            return bare
        if label == _HAT and float((labels == _HAT).mean()) > _MIN_HAT_SHARE:
            return labels  # there is one
        i, view = WORN.index((group, value)), round(side)
        fit = _fit(eyes_of(bare), self.worn_eyes[view, i].numpy())
        target = _sampled(self.worn[view, i].numpy(), fit, len(labels)) > 0
        out = np.where(target & np.isin(bare, _UNDER_HAT if label == _HAT else _UNDER_GLASSES), np.uint8(label), bare)
        if label == _HAT:  # no hair rises out of it
            below = np.cumsum(target[::-1], 0)[::-1] > 0
            out = np.where(below & ~target & (out == _HAIR) & (np.cumsum(target, 0) == 0), np.uint8(0), out)
        return out

    def _without_accessory(self, labels: U8, label: int, side: float) -> U8:
        removed = labels == label
        if not removed.any():
            return labels
        if label == _GLASSES:
            return _fill_uncovered(labels, removed, removed, _UNDER_GLASSES)
        fit = _fit(eyes_of(labels), _mixed(self.eyes, side))
        hair = _sampled(_mixed(self.hair[:, LENGTHS.index("short")], side), fit, len(labels)) > 0
        under = removed & hair & (labels == _HAIR).any()
        out = np.where(under, np.uint8(_HAIR), labels)
        return _fill_uncovered(out, removed & ~under, _sampled(_mixed(self.head, side), fit, len(labels)) > 0, _BODY)


def signed_distance(mask: Mask) -> F32:
    """Distance of every pixel to the outline of ``mask`` [H, H], positive inside, in sides of the picture, to REACH."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, REACH if mask.any() else -REACH, np.float32)
    from scipy import ndimage  # here: servers start without scipy

    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    # The outline runs between pixels, half a pixel from either's middle.
    signed = np.where(mask, inside - 0.5, 0.5 - outside) / len(mask)
    bounded: F32 = np.clip(signed, -REACH, REACH).astype(np.float32)
    return bounded


def eyes_of(labels: U8) -> F32 | None:
    """Middles of the person's right and left eye in a map, [2, 2] x and y in sides of the picture; None unless both."""
    result = []
    for label in (_RIGHT_EYE, _LEFT_EYE):
        rows, columns = np.nonzero(labels == label)
        if not len(rows):
            return None
        result.append(((columns.mean() + 0.5) / len(labels), (rows.mean() + 0.5) / len(labels)))
    return np.array(result, np.float32)


def _near(field: F32) -> F32:
    return np.clip(field, -_COMPARED_BAND, _COMPARED_BAND)


def _mixed(fields: Tensor, side: float) -> F32:
    """Between the view from the front (0) and that from the side (1)."""
    mixed: F32 = torch.lerp(fields[0].float(), fields[1].float(), side).numpy()
    return mixed


def _fit(map_eyes: F32 | None, field_eyes: F32) -> F32:
    """[2, 3] from places in a map to places in a field: what brings eye upon eye; the identity where one is missing."""
    map_gap, field_gap = (None if e is None else e[1] - e[0] for e in (map_eyes, field_eyes))
    if map_eyes is None or map_gap is None or field_gap is None or not np.any(map_gap) or not np.any(field_gap):
        return np.eye(2, 3, dtype=np.float32)
    turn = complex(*field_gap) / complex(*map_gap)
    scale = min(max(abs(turn), 0.5), 2.0)
    a, b = scale * math.cos(math.atan2(turn.imag, turn.real)), scale * math.sin(math.atan2(turn.imag, turn.real))
    matrix = np.array([[a, -b], [b, a]], np.float32)
    shift = field_eyes.mean(0) - matrix @ map_eyes.mean(0)
    result: F32 = np.concatenate([matrix, shift[:, None]], 1).astype(np.float32)
    return result


def _sampled(field: F32, fit: F32, size: int) -> F32:
    """A field [S, S] sampled at the pixels of a map of ``size`` a side, distances in sides of the map."""
    from scipy import ndimage

    places = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(places, places)
    columns, rows = (len(field) * (fit[i, 0] * x + fit[i, 1] * y + fit[i, 2]) - 0.5 for i in range(2))
    sampled = ndimage.map_coordinates(field, [rows, columns], order=1, mode="nearest")
    return np.asarray(sampled / max(float(np.hypot(fit[0, 0], fit[1, 0])), 1e-6), np.float32)


def _fill_uncovered(labels: U8, removed: Mask, inside: Mask, behind: tuple[int, ...]) -> U8:
    """Where something is ``removed``: the nearest label of what may be ``behind`` it if ``inside``, else background."""
    from scipy import ndimage

    behind_mask = np.isin(labels, behind) & ~removed
    if not behind_mask.any():
        return np.where(removed, np.uint8(_FACE), labels)
    rows, columns = ndimage.distance_transform_edt(~behind_mask, return_distances=False, return_indices=True)
    return np.where(removed, np.where(inside, labels[rows, columns], np.uint8(0)), labels)
