"""Words that are shapes, painted into a map: "long hair", "curly hair", "bald", "a hat", "glasses" (ours).

A look moves no geometry, as in the paper. Words for shapes therefore go where shapes are said: into the map, where
people see what they did and paint on. Hair grows and shrinks by the difference between typical outlines, so that it
stays this person's hair; what is put on has the outline of a typical one, fitted between the eyes.

Fields are signed distances to an outline, in sides of the picture, positive inside.

Legend: Y sights (from the front, and from 45 degrees to the person's left), L lengths of hair, C curls, W things to
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
REACH = 0.25  # beyond this distance an outline says nothing
SIDE = 128
SIDE_YAW = 45.0  # degrees of the second sight
YAW_MAX = 75.0  # beyond it no eye says where things go
_COMPARED = 0.08  # lengths differ close to their outlines
_ROOM = 0.02  # how far hair that was cut may stand out from the typical outline
_SURE = 0.012  # how far inside the typical outline hair may cover a face
_SPECK = 0.003  # share of the map below which a hat is a mistake of the parsing
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
            yaw_deg: That the map is seen from; see ``orbit_camera``. Beyond ``YAW_MAX`` nothing is painted.
            strength: Share of the way for hair; things are put on or off from 0.5 on.

        Returns:
            [H, H]; ``labels`` itself where nothing is to be done.
        """
        if abs(yaw_deg) > YAW_MAX or not labels.any():
            return labels
        if yaw_deg < 0:  # the fields show the person's left
            mirrored = _SWAP[np.ascontiguousarray(labels[:, ::-1])]
            found = self.paint(mirrored, named, -yaw_deg, strength)
            return labels if found is mirrored else _SWAP[np.ascontiguousarray(found[:, ::-1])]
        out = labels
        side = min(yaw_deg / SIDE_YAW, 1.0)
        if (length := named.get("hair length")) in LENGTHS:
            out = self._grown(out, LENGTHS.index(length), side, strength)
        if (curl := named.get("curl")) in CURLS:
            out = self._curled(out, CURLS.index(curl), side, strength)
        if strength >= 0.5:
            for group in ("hat", "glasses"):
                if group in named:
                    out = self._dressed(out, group, named[group], side)
        return out

    def _grown(self, labels: U8, wanted: int, side: float, strength: float) -> U8:
        """Hair of another length."""
        fit = _fit(eyes_of(labels), _mixed(self.eyes, side))
        fields = [_seen(_mixed(self.hair[:, i], side), fit, len(labels)) for i in range(len(LENGTHS))]
        here = signed_distance(labels == _HAIR)
        near = [np.abs(_near(here) - _near(field)).mean() for field in fields]
        now = int(np.argmin(near))
        if now == wanted:
            return labels
        typical = fields[wanted]
        there = here + (typical - fields[now])
        # The difference alone would leave a mop of a mane, and holes in what was thin: the typical outline is a bound.
        there = np.maximum(there, typical) if wanted > now else np.minimum(there, typical + _ROOM)
        hair = here + strength * (there - here) > 0
        over = np.isin(labels, _UNDER_HAIR) | (np.isin(labels, (2, 6, 7)) & (typical > _SURE))
        out = np.where(hair & over, np.uint8(_HAIR), labels)
        gone = (labels == _HAIR) & ~hair
        return _uncovered(out, gone, _seen(_mixed(self.head, side), fit, len(labels)) > 0, _BODY)

    def _curled(self, labels: U8, wanted: int, side: float, strength: float) -> U8:
        """Hair of the same length that stands out as curly hair does, or lies as straight hair does."""
        fit = _fit(eyes_of(labels), _mixed(self.eyes, side))
        here = signed_distance(labels == _HAIR)
        fields = [_seen(_mixed(self.hair[:, i], side), fit, len(labels)) for i in range(1, len(LENGTHS))]
        length = int(np.argmin([np.abs(_near(here) - _near(field)).mean() for field in fields]))
        both = self.curls[:, :, length]
        if not (labels == _HAIR).any() or bool((both.amax((2, 3)) <= -REACH).any()):  # no hair, or none was seen
            return labels
        other, typical = (_seen(_mixed(both[:, i], side), fit, len(labels)) for i in (1 - wanted, wanted))
        there = here + (typical - other)
        # Curls only stand out, straight hair only lies closer, and neither goes past what is typical of it.
        curly = CURLS[wanted] == "curly"
        there = (
            np.maximum(here, np.minimum(there, typical + _ROOM))
            if curly
            else np.minimum(here, np.maximum(there, typical - _ROOM))
        )
        hair = here + strength * (there - here) > 0
        out = np.where(hair & np.isin(labels, _UNDER_HAIR), np.uint8(_HAIR), labels)
        gone = (labels == _HAIR) & ~hair
        if (out == labels).all() and not gone.any():
            return labels
        return _uncovered(out, gone, _seen(_mixed(self.head, side), fit, len(labels)) > 0, _BODY)

    def _dressed(self, labels: U8, group: str, value: str, side: float) -> U8:
        """A hat or glasses put on, off, or changed."""
        mine = _HAT if group == "hat" else _GLASSES
        bare = self._undressed(labels, mine, side)
        if (group, value) not in WORN:
            return bare
        if mine == _HAT and float((labels == _HAT).mean()) > _SPECK:
            return labels  # there is one
        i, sight = WORN.index((group, value)), round(side)
        fit = _fit(eyes_of(bare), self.worn_eyes[sight, i].numpy())
        there = _seen(self.worn[sight, i].numpy(), fit, len(labels)) > 0
        out = np.where(there & np.isin(bare, _UNDER_HAT if mine == _HAT else _UNDER_GLASSES), np.uint8(mine), bare)
        if mine == _HAT:  # no hair rises out of it
            below = np.cumsum(there[::-1], 0)[::-1] > 0
            out = np.where(below & ~there & (out == _HAIR) & (np.cumsum(there, 0) == 0), np.uint8(0), out)
        return out

    def _undressed(self, labels: U8, mine: int, side: float) -> U8:
        gone = labels == mine
        if not gone.any():
            return labels
        if mine == _GLASSES:
            return _uncovered(labels, gone, gone, _UNDER_GLASSES)
        fit = _fit(eyes_of(labels), _mixed(self.eyes, side))
        hair = _seen(_mixed(self.hair[:, LENGTHS.index("short")], side), fit, len(labels)) > 0
        under = gone & hair & (labels == _HAIR).any()
        out = np.where(under, np.uint8(_HAIR), labels)
        return _uncovered(out, gone & ~under, _seen(_mixed(self.head, side), fit, len(labels)) > 0, _BODY)


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
    found = []
    for label in (_RIGHT_EYE, _LEFT_EYE):
        rows, columns = np.nonzero(labels == label)
        if not len(rows):
            return None
        found.append(((columns.mean() + 0.5) / len(labels), (rows.mean() + 0.5) / len(labels)))
    return np.array(found, np.float32)


def _near(field: F32) -> F32:
    return np.clip(field, -_COMPARED, _COMPARED)


def _mixed(fields: Tensor, side: float) -> F32:
    """Between the sight from the front (0) and that from the side (1)."""
    mixed: F32 = torch.lerp(fields[0].float(), fields[1].float(), side).numpy()
    return mixed


def _fit(here: F32 | None, there: F32) -> F32:
    """[2, 3] from places in a map to places in a field: what brings eye upon eye; the identity where none are seen."""
    apart_here, apart_there = (None if e is None else e[1] - e[0] for e in (here, there))
    if here is None or apart_here is None or apart_there is None or not np.any(apart_here) or not np.any(apart_there):
        return np.eye(2, 3, dtype=np.float32)
    turn = complex(*apart_there) / complex(*apart_here)
    scale = min(max(abs(turn), 0.5), 2.0)
    a, b = scale * math.cos(math.atan2(turn.imag, turn.real)), scale * math.sin(math.atan2(turn.imag, turn.real))
    matrix = np.array([[a, -b], [b, a]], np.float32)
    shift = there.mean(0) - matrix @ here.mean(0)
    found: F32 = np.concatenate([matrix, shift[:, None]], 1).astype(np.float32)
    return found


def _seen(field: F32, fit: F32, size: int) -> F32:
    """A field [S, S] as a map of ``size`` pixels sees it, distances in sides of the map."""
    from scipy import ndimage

    places = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(places, places)
    columns, rows = (len(field) * (fit[i, 0] * x + fit[i, 1] * y + fit[i, 2]) - 0.5 for i in range(2))
    seen = ndimage.map_coordinates(field, [rows, columns], order=1, mode="nearest")
    return np.asarray(seen / max(float(np.hypot(fit[0, 0], fit[1, 0])), 1e-6), np.float32)


def _uncovered(labels: U8, gone: Mask, inside: Mask, behind: tuple[int, ...]) -> U8:
    """Where something is ``gone``: the nearest label of what may be ``behind`` it if ``inside``, else background."""
    from scipy import ndimage

    known = np.isin(labels, behind) & ~gone
    if not known.any():
        return np.where(gone, np.uint8(_FACE), labels)
    rows, columns = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.where(gone, np.where(inside, labels[rows, columns], np.uint8(0)), labels)
