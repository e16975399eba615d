"""The wire codec: what heads travel and rest in.

Two modes. ``quantized``: positions 16 bits an axis in the cloud's own box, the smallest three components
of the quaternion, log-scales, opacity and colours 8 bits each, one plane an attribute, zstd: 16 bytes a
Gaussian, 67 dB in the picture. ``raw``: the float32 arrays as they are, lossless, 56 bytes a Gaussian.
Always the canonical head frame and metres.

Layout, little-endian: a header of 32 bytes (magic, u8 version, u8 mode, u16 flags, u32 count, u32 length
of the parameters, u32 length of the body, u32 CRC-32 of parameters and body, 8 zeros), the parameters
(quantized: 12 float32, low and high of each position axis and each log-scale axis), the body. Room to
grow: modes above 1 (deltas against another head), flag bits, the zeros and parameters longer than known,
which readers of this version skip; an unknown version, mode or flag is refused. The CRC guards against
accidents; who needs more wraps the bytes in the store's envelope.
"""

from __future__ import annotations

import struct
import zlib
from typing import Literal

import numpy as np
import zstandard
from numpy.typing import NDArray

from headlift.errors import FormatError, InvalidGaussiansError
from headlift.formats.axes import HEAD_FRAME
from headlift.formats.cloud import MAX_GAUSSIANS, Array, Cloud, Metadata, check_count, unit_quats
from headlift.formats.inflate import unzstd
from headlift.formats.quantize import (
    box_of,
    dequantize_box,
    pack_smallest_three,
    quantize_box,
    quantize_unit,
    unpack_smallest_three,
)

MAGIC = b"HLGS"
Mode = Literal["quantized", "raw"]

_VERSION = 1
_HEAD = struct.Struct("<4sBBHIIII8x")
_MODES: dict[Mode, int] = {"raw": 0, "quantized": 1}
_ZSTD = 0x1  # flag: the body is one zstd frame
_PARAMETERS = {"raw": 0, "quantized": 48}  # bytes
_WIDTH = {"raw": 56, "quantized": 17}  # bytes of unpacked body a Gaussian
_MAX_PARAMETERS = 4096
_MIN_RATIO = 1e-4  # scales below this part of their axis' largest are all the same to a picture
_TINY = 1e-20  # m
_FARTHEST = 1e9  # m; beyond, float32 itself is too coarse for a box of 65,536 steps
_FARTHEST_LOG = 50.0  # covers ln of _TINY to _FARTHEST
_WHAT = "wire message"


def encode(cloud: Cloud, *, mode: Mode = "quantized", level: int = 3) -> bytes:
    """The message of a cloud.

    Args:
        cloud: Gaussians in any frame.
        mode: ``quantized`` or ``raw``.
        level: zstd level of the quantized body, 1..19; 0 leaves it unpacked.

    Raises:
        FormatError: Another mode or level.
    """
    if mode not in _MODES:
        raise FormatError(f"Wire mode {mode!r} is not known; choose quantized or raw.", field="mode")
    if not 0 <= level <= 19:
        raise FormatError(f"zstd level is {level}; it must be 0..19.", field="level")
    cloud = cloud.in_frame(HEAD_FRAME)
    parameters, body = _pack_raw(cloud) if mode == "raw" else _pack_quantized(cloud)
    flags = 0
    if mode == "quantized" and level:
        body, flags = zstandard.ZstdCompressor(level=level).compress(body), _ZSTD
    crc = zlib.crc32(body, zlib.crc32(parameters))
    head = _HEAD.pack(MAGIC, _VERSION, _MODES[mode], flags, len(cloud), len(parameters), len(body), crc)
    return b"".join((head, parameters, body))


def decode(data: bytes, *, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of a message.

    Raises:
        FormatError: Not a message, of another version, mode or flags, damaged, shorter or longer than announced.
    """
    if len(data) < _HEAD.size or not data.startswith(MAGIC):
        raise FormatError(
            f"These {len(data):,} bytes do not start with the header of a {_WHAT} ({MAGIC!r} and 28 bytes more)."
        )
    _, version, mode_index, flags, count, parameter_size, body_size, crc = _HEAD.unpack_from(data)
    mode: Mode | None = next((name for name, index in _MODES.items() if index == mode_index), None)
    if version != _VERSION or mode is None or flags & ~_ZSTD:
        raise FormatError(
            f"The {_WHAT} has version {version}, mode {mode_index}, flags {flags:#x}; this reader knows version "
            f"{_VERSION}, modes 0 and 1, flags 0 and 1. Update Headlift."
        )
    check_count(count, max_gaussians, _WHAT)
    if (
        not _PARAMETERS[mode] <= parameter_size <= _MAX_PARAMETERS
        or len(data) != _HEAD.size + parameter_size + body_size
    ):
        raise FormatError(
            f"The {_WHAT} announces {_HEAD.size} + {parameter_size:,} + {body_size:,} bytes and is {len(data):,} long; "
            "it was cut off or glued to another. Fetch it again."
        )
    if zlib.crc32(memoryview(data)[_HEAD.size :]) != crc:
        raise FormatError(f"The checksum of the {_WHAT} does not match; it was damaged on the way. Fetch it again.")
    parameters = data[_HEAD.size : _HEAD.size + parameter_size]
    body = _body(memoryview(data)[_HEAD.size + parameter_size :], flags, count * _WIDTH[mode])
    cloud = _unpack_raw(body, count) if mode == "raw" else _unpack_quantized(body, count, parameters)
    return cloud, Metadata("wire", str(version), count, HEAD_FRAME)


def _body(stored: memoryview, flags: int, size: int) -> bytearray | memoryview:
    if flags & _ZSTD:
        return unzstd(stored, size, _WHAT)
    if len(stored) != size:
        raise FormatError(
            f"The body of the {_WHAT} is {len(stored):,} bytes long; its count needs {size:,}. It is not valid."
        )
    return stored


def _pack_raw(cloud: Cloud) -> tuple[bytes, bytes]:
    arrays = (cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.colors)
    return b"", b"".join(array.astype("<f4", copy=False).tobytes() for array in arrays)


def _unpack_raw(body: bytearray | memoryview, n: int) -> Cloud:
    values = np.frombuffer(body, "<f4")
    means, quats, scales, opacities, colors = np.split(values, np.cumsum([3 * n, 4 * n, 3 * n, n]))
    return Cloud(means.reshape(n, 3), quats.reshape(n, 4), scales.reshape(n, 3), opacities, colors.reshape(n, 3))


def _pack_quantized(cloud: Cloud) -> tuple[bytes, bytes]:
    """Parameters and body; planes in the order high and low bytes of positions, index, components, scales, rest."""
    farthest = max(float(np.abs(cloud.means).max()), float(cloud.scales.max()))
    if farthest > _FARTHEST:
        raise InvalidGaussiansError(
            f"The cloud reaches {farthest:.3g} m; {_FARTHEST:.0e} m can be quantized. Use mode raw."
        )
    means = np.ascontiguousarray(cloud.means.T)  # planes: [3, N]
    scales = np.ascontiguousarray(cloud.scales.T)
    floor = np.maximum(scales.max(1, keepdims=True) * _MIN_RATIO, _TINY)
    logs = np.log(np.maximum(scales, floor.astype(np.float32)))
    mean_box, scale_box = box_of(means), box_of(logs)
    positions = quantize_box(means, mean_box, 65535).astype(np.uint16)
    planes: tuple[NDArray[np.uint8], ...] = (
        (positions >> 8).astype(np.uint8),
        positions.astype(np.uint8),
        pack_smallest_three(np.ascontiguousarray(unit_quats(cloud.quats).T)),
        quantize_box(logs, scale_box, 255).astype(np.uint8),
        quantize_unit(cloud.opacities),
        quantize_unit(cloud.colors.T),
    )
    parameters = np.concatenate([mean_box.ravel(), scale_box.ravel()]).astype("<f4").tobytes()
    return parameters, b"".join(plane.tobytes() for plane in planes)


def _unpack_quantized(body: bytearray | memoryview, n: int, parameters: bytes) -> Cloud:
    boxes: Array = np.frombuffer(parameters, "<f4", 12).astype(np.float32).reshape(2, 2, 3)
    limits = np.array([_FARTHEST, _FARTHEST_LOG], np.float32)[:, None, None]
    if not (np.abs(boxes) <= limits).all() or (boxes[:, 1] < boxes[:, 0]).any():
        raise FormatError(
            f"The boxes in the {_WHAT} are not finite, inverted or beyond {_FARTHEST:.0e} m; it is not valid."
        )
    planes = np.frombuffer(body, np.uint8).reshape(17, n)
    positions = planes[0:3].astype(np.uint16) << 8 | planes[3:6]
    # 256 levels an axis: exponentials of the levels, not of the Gaussians.
    levels = np.exp(dequantize_box(np.tile(np.arange(256, dtype=np.float32), (3, 1)), boxes[1], 255))
    return Cloud(
        means=np.ascontiguousarray(dequantize_box(positions.astype(np.float32), boxes[0], 65535).T),
        quats=np.ascontiguousarray(unpack_smallest_three(planes[6:10]).T),
        scales=np.stack([levels[axis][planes[10 + axis]] for axis in range(3)], 1),
        opacities=planes[13].astype(np.float32) / np.float32(255.0),
        colors=np.ascontiguousarray(planes[14:17].T).astype(np.float32) / np.float32(255.0),
    )
