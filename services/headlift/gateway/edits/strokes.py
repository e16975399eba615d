"""Strokes: checked, and painted onto label maps.

Painting is exact arithmetic on pixel centres, so that the same strokes give the same map on every machine, at every
replay. Coordinates are integers, UNIT of them across the crop; legend: S side of the map, P points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headlift.errors import InvalidInputError
from headlift.gateway.edits.maps import LABEL_MAX, U8
from headlift.gateway.validation import check_enum, check_range
from headlift.v1 import edit_pb2 as pb

UNIT = 8192
STROKES_MAX, STROKE_POINTS_MAX, POINTS_MAX = 256, 2048, 16384
_LOW, _HIGH = -UNIT, 2 * UNIT
_RADIUS_MAX = UNIT // 2
_HALF_PIXEL = 0.7072  # of a pixel's side: no dot slips between four centres
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stroke:
    """One checked stroke; see the contract."""

    label: int
    points: I64  # [P, 2] x, y
    radius: int
    shape: int  # pb.StrokeShape, not UNSPECIFIED


def parse_strokes(message: pb.Strokes, field: str = "strokes") -> list[Stroke]:
    """The strokes of a message. InvalidInputError: BAD_STROKE."""
    try:
        check_range(field, len(message.strokes), 1, STROKES_MAX)
        check_range(f"{field} points", sum(len(s.points) for s in message.strokes) / 2, 1, POINTS_MAX)
        return [_parse(s, f"{field}.strokes[{i}]") for i, s in enumerate(message.strokes)]
    except InvalidInputError as error:
        error.reason = "BAD_STROKE"
        raise


def paint(labels: U8, strokes: Sequence[Stroke], check: Callable[[], None] = lambda: None) -> U8:
    """``labels`` [S, S] with strokes on it, one upon the other; ``check`` raises when nobody waits any more."""
    result = labels.copy()
    for stroke in strokes:
        result[_mask(result, stroke, check)] = stroke.label
    return result


def _parse(message: pb.Stroke, field: str) -> Stroke:
    check_enum(message.shape, pb.StrokeShape.values(), f"{field}.shape")
    check_range(f"{field}.label", message.label, 0, LABEL_MAX)
    check_range(f"{field}.radius", message.radius, 0, _RADIUS_MAX)
    shape = message.shape or pb.STROKE_SHAPE_LINE
    fill = shape == pb.STROKE_SHAPE_FILL
    points = np.array(message.points, np.int64)
    if len(points) % 2:
        raise InvalidInputError(f"{field}.points has {len(points)} numbers; x and y come in turn.", field=field)
    check_range(f"{field} points", len(points) // 2, 1, 1 if fill else STROKE_POINTS_MAX)
    low, high = (0, UNIT - 1) if fill else (_LOW, _HIGH)
    check_range(f"{field}.points", int(points.min()), low, high)
    check_range(f"{field}.points", int(points.max()), low, high)
    return Stroke(message.label, points.reshape(-1, 2), message.radius, shape)


def _mask(labels: U8, stroke: Stroke, check: Callable[[], None]) -> Mask:
    """[S, S] what a stroke covers."""
    check()
    side = labels.shape[0]
    if stroke.shape == pb.STROKE_SHAPE_FILL:
        from scipy import ndimage  # here: servers start without scipy

        x, y = (int(v) * side // UNIT for v in stroke.points[0])
        regions, _ = ndimage.label(labels == labels[y, x])
        return np.asarray(regions == regions[y, x])
    centers: F64 = (np.arange(side) + 0.5) * (UNIT / side)
    points = stroke.points.astype(np.float64)
    mask = np.zeros((side, side), np.bool_)
    if stroke.shape == pb.STROKE_SHAPE_AREA:
        _fill_polygon(mask, centers, points, check)
        if not stroke.radius:
            return mask
        points = np.concatenate([points, points[:1]])
    radius = max(float(stroke.radius), _HALF_PIXEL * UNIT / side)
    for start, end in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        check()
        _draw_segment(mask, centers, start, end, radius)
    return mask


def _draw_segment(mask: Mask, centers: F64, start: F64, end: F64, radius: float) -> None:
    """Set the pixels whose centre is within ``radius`` of a segment."""
    low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
    (x0, y0), (x1, y1) = np.searchsorted(centers, low), np.searchsorted(centers, high, "right")
    x, y = centers[x0:x1][None], centers[y0:y1][:, None]
    along = end - start
    length2 = float(along @ along)
    t = 0.0 if not length2 else np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length2, 0.0, 1.0)
    dx, dy = x - (start[0] + t * along[0]), y - (start[1] + t * along[1])
    mask[y0:y1, x0:x1] |= dx * dx + dy * dy <= radius * radius


def _fill_polygon(mask: Mask, centers: F64, points: F64, check: Callable[[], None]) -> None:
    """Set the pixels whose centre lies inside, by the even-odd rule."""
    for start, end in zip(points, np.roll(points, -1, 0), strict=True):
        check()
        (xa, ya), (xb, yb) = sorted((start, end), key=lambda p: float(p[1]))
        rows = slice(*np.searchsorted(centers, [ya, yb]))
        if rows.start == rows.stop:
            continue
        crossing = xa + (centers[rows] - ya) * (xb - xa) / (yb - ya)
        mask[rows] ^= centers[None] > crossing[:, None]
