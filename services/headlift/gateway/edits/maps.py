"""Label maps: from messages and PNG files to checked arrays, and back."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image

from headlift.errors import InvalidInputError
from headlift.gateway.validation import check_enum
from headlift.limits import SIDE_MAX, SIDE_MIN
from headlift.stages.preprocess.interfaces import CLASSES
from headlift.v1 import edit_pb2 as pb

U8 = npt.NDArray[np.uint8]
LABEL_MAX = len(CLASSES) - 1
KEEP = 255  # the label of what an edit leaves as it is
BYTES_MAX = 4 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8xIIBB")  # length and name of the chunk, width, height, bit depth, colour type
_GREY, _PALETTE = 0, 3


def parse_map(message: pb.LabelMap, side: int, *, field: str, may_keep: bool) -> U8:
    """The map of a message at ``side`` pixels.

    Args:
        message: What came.
        side: Of the result; nearest labels of maps of another side.
        field: Its name in the request.
        may_keep: Whether labels may be KEEP.

    Returns:
        [side, side], labels 0..18, or KEEP.

    Raises:
        InvalidInputError: BAD_MAP, WRONG_SIZE, UNKNOWN_LABEL or EMPTY_MAP (nothing but background).
    """
    if len(message.data) > BYTES_MAX:
        raise _wrong_size(f"{field} has {len(message.data)} bytes; at most {BYTES_MAX} are read.", field)
    check_enum(message.format, pb.LabelMapFormat.values(), f"{field}.format")
    raw = message.format == pb.LABEL_MAP_FORMAT_RAW
    labels = _unpack_raw(message, field) if raw else _unpack_png(message, field)
    _check_labels(labels, field, may_keep)
    return resize_map(labels, side)


def check_not_empty(labels: U8, field: str) -> None:
    """Refuse a map without a person. InvalidInputError: EMPTY_MAP."""
    if not labels.any():
        raise InvalidInputError(
            f"{field} is background (label 0) everywhere; paint a head, of labels 1..{LABEL_MAX}.",
            reason="EMPTY_MAP",
            field=field,
        )


def map_message(labels: U8, kind: pb.LabelMapFormat.ValueType = pb.LABEL_MAP_FORMAT_PNG) -> pb.LabelMap:
    """A map [S, S] as a message."""
    kind = kind or pb.LABEL_MAP_FORMAT_PNG
    data = labels.tobytes() if kind == pb.LABEL_MAP_FORMAT_RAW else grey_png(labels)
    return pb.LabelMap(data=data, format=kind, side_px=labels.shape[0])


def grey_png(values: U8) -> bytes:
    """[H, W] as a PNG file of 8-bit grey."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def resize_map(labels: U8, side: int) -> U8:
    """[side, side] of a square map: the label nearest to each pixel's middle."""
    if labels.shape[0] == side:
        return labels
    at = (2 * np.arange(side) + 1) * labels.shape[0] // (2 * side)
    return np.ascontiguousarray(labels[np.ix_(at, at)])


def painted(before: U8, patch: U8) -> U8:
    """``before`` with what ``patch`` changes."""
    return np.where(patch == KEEP, before, patch)


def difference(before: U8, after: U8) -> U8:
    """The patch that makes ``after`` of ``before``."""
    return np.where(before == after, np.uint8(KEEP), after)


def _unpack_raw(message: pb.LabelMap, field: str) -> U8:
    side = message.side_px
    if not SIDE_MIN <= side <= SIDE_MAX or len(message.data) != side * side:
        raise _wrong_size(
            f"{field} has {len(message.data)} bytes and side_px {side}; a raw map has side_px * side_px bytes, "
            f"side_px {SIDE_MIN}..{SIDE_MAX}.",
            field,
        )
    return np.frombuffer(message.data, np.uint8).reshape(side, side)


def _unpack_png(message: pb.LabelMap, field: str) -> U8:
    # The header first: what it says costs nothing, and Pillow would scale the values of narrower greys.
    if not message.data.startswith(_PNG) or len(message.data) < _HEADER.size + len(_PNG):
        raise _bad_map(f"{field} is not a PNG file; send one, or a raw map and say so in format.", field)
    width, height, depth, kind = _HEADER.unpack_from(message.data, len(_PNG))
    if width != height or not SIDE_MIN <= width <= SIDE_MAX or message.side_px not in (0, width):
        raise _wrong_size(
            f"{field} is {width}x{height}, side_px {message.side_px}; a map is square, {SIDE_MIN}..{SIDE_MAX} pixels, "
            "and side_px its side or 0.",
            field,
        )
    if (kind, depth) != (_GREY, 8) and kind != _PALETTE:
        raise _bad_map(f"{field} is a PNG file in colour, or not of 8 bits; write 8-bit grey, or a palette.", field)
    try:
        return np.asarray(Image.open(io.BytesIO(message.data), formats=["PNG"]), np.uint8)
    except (OSError, ValueError, SyntaxError):
        raise _bad_map(f"{field} is a broken PNG file; pack it again.", field) from None


def _check_labels(labels: U8, field: str, may_keep: bool) -> None:
    wrong = labels > LABEL_MAX
    if may_keep:
        wrong &= labels != KEEP
    if wrong.any():
        unknown = sorted({int(v) for v in np.unique(labels[wrong])})
        way_out = f", or {KEEP} where it stays as it is" if may_keep else f" (no {KEEP}: there is no head to keep)"
        raise InvalidInputError(
            f"{field} holds the label {unknown[0]}; labels are 0..{LABEL_MAX}{way_out}.",
            reason="UNKNOWN_LABEL",
            field=field,
            metadata={"labels": ",".join(map(str, unknown[:32]))},
        )


def _wrong_size(message: str, field: str) -> InvalidInputError:
    return InvalidInputError(message, reason="WRONG_SIZE", field=field)


def _bad_map(message: str, field: str) -> InvalidInputError:
    return InvalidInputError(message, reason="BAD_MAP", field=field)
