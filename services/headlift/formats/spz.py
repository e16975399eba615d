"""SPZ, Niantic's compressed splats: quantised attributes, one after the other.

Positions are 24-bit fixed point, opacities, colours and log-scales 8-bit, rotations the smallest three
components of the quaternion in 10 bits each (version 3 on; version 2: x y z in 8 bits). Two containers
hold the same attributes: versions 2 and 3 one gzip stream, version 4 one zstd stream an attribute
(``spz_container``). Axes are RUB unless an SPZ_ADOBE_coordinate_system record says otherwise; many files
of others hold RDF and do not say so (nianticlabs/spz issue 84), which ``frame`` is for.
Specification: nianticlabs/spz, README (MIT).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError, InvalidGaussiansError
from headlift.formats.axes import SPZ_FRAME, Frame, parse_frame
from headlift.formats.cloud import (
    MAX_GAUSSIANS,
    SH_C0,
    Array,
    Cloud,
    Metadata,
    exp_scales,
    log_scales,
    unit_quats,
)
from headlift.formats.spz_container import MAGIC, Header, Streams, pack_gzip, pack_zstd, unpack

__all__ = ["MAGIC", "decode", "encode"]

_COLOR_SCALE = 0.15 / SH_C0  # stored colour = (c - 0.5) * this + 0.5: room for coefficients that overshoot
_FRACTION_BITS = 16  # 15 micrometres; the reference's default of 12 (0.24 mm) shows on a head
_MAX_FRACTION_BITS = 24
_LIMIT = (1 << 23) - 1
_ROOT_HALF = np.float32(np.sqrt(0.5))
_STEPS = 511  # levels of a rotation component's magnitude: 9 bits


def encode(
    cloud: Cloud, *, version: Literal[3, 4] = 3, fraction_bits: int = _FRACTION_BITS, frame: Frame = SPZ_FRAME
) -> bytes:
    """An SPZ file.

    Args:
        cloud: Gaussians in any frame.
        version: 3 (gzip; every reader) or 4 (zstd; newer readers, unpacks faster; about the same size).
        fraction_bits: Bits of a position after the point, 0..24; fewer are used where the cloud is too wide.
        frame: Frame to write. RUB is the specification's; any other is recorded in the file. splat-transform and
            PlayCanvas take the numbers for RDF whatever the file says: choose RDF for them.

    Raises:
        FormatError: Another version, or fraction_bits out of range.
        InvalidGaussiansError: A coordinate is beyond the 8,388,607 m that 24 bits can hold.
    """
    if version not in (3, 4):
        raise FormatError(f"SPZ version {version} cannot be written; choose 3 or 4.", field="version")
    if not 0 <= fraction_bits <= _MAX_FRACTION_BITS:
        raise FormatError(
            f"fraction_bits is {fraction_bits}; it must be 0..{_MAX_FRACTION_BITS}.", field="fraction_bits"
        )
    cloud = cloud.in_frame(parse_frame(frame))
    bits = _fitting_bits(cloud.means, fraction_bits)
    streams = Streams(
        positions=_pack_positions(cloud.means, bits),
        alphas=_bytes(cloud.opacities * 255.0),
        colors=_bytes(((cloud.colors - 0.5) * _COLOR_SCALE + 0.5) * 255.0),
        scales=_bytes((log_scales(cloud.scales) + 10.0) * 16.0),
        rotations=_pack_rotations(unit_quats(cloud.quats)),
    )
    header = Header(version=version, count=len(cloud), sh_degree=0, fraction_bits=bits, frame=cloud.frame)
    return pack_gzip(header, streams) if version == 3 else pack_zstd(header, streams)


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of an SPZ file of version 2, 3 or 4; harmonics above degree 0 are left out.

    Args:
        data: The file.
        frame: Frame of its coordinates; None takes the file's own (RUB where it has none).
        max_gaussians: Refuse files that announce more.

    Raises:
        FormatError: Not SPZ, of another version, damaged, shorter or longer than announced, or too large.
    """
    header, streams = unpack(data, max_gaussians)
    if header.fraction_bits > _MAX_FRACTION_BITS:
        raise FormatError(
            f"The SPZ header gives {header.fraction_bits} fraction bits; 24-bit positions have at most 24."
        )
    used = parse_frame(frame or header.frame)
    smallest_three = header.version >= 3
    cloud = Cloud(
        means=_unpack_positions(streams.positions, header.fraction_bits),
        quats=_unpack_rotations(streams.rotations) if smallest_three else _unpack_first_three(streams.rotations),
        scales=exp_scales(_floats(streams.scales, 3) / 16.0 - 10.0),
        opacities=_floats(streams.alphas, 1)[:, 0] / 255.0,
        colors=(_floats(streams.colors, 3) / 255.0 - 0.5) / np.float32(_COLOR_SCALE) + 0.5,
        frame=used,
    )
    return cloud, Metadata("spz", str(header.version), header.count, used, sh_degree=header.sh_degree)


def _bytes(values: Array) -> bytes:
    """Rounded and clipped to 0..255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8).tobytes()


def _floats(data: bytes | bytearray, width: int) -> Array:
    """Bytes as floats, [N, width]."""
    return np.frombuffer(data, np.uint8).reshape(-1, width).astype(np.float32)


def _fitting_bits(means: Array, wanted: int) -> int:
    """Most fraction bits, up to ``wanted``, with which every coordinate fits into 24 bits."""
    farthest = float(np.abs(means).max())
    for bits in range(wanted, -1, -1):
        if farthest * (1 << bits) <= _LIMIT:
            return bits
    raise InvalidGaussiansError(
        f"A mean lies {farthest:.4g} m out; SPZ holds up to {_LIMIT:,} m. Scale the cloud down."
    )


def _pack_positions(means: Array, bits: int) -> bytes:
    """Little-endian signed 24-bit integers."""
    whole = np.rint(means.astype(np.float64) * (1 << bits)).astype("<i4")
    return whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def _unpack_positions(data: bytes | bytearray, bits: int) -> Array:
    raw = np.zeros((len(data) // 3, 4), np.uint8)
    raw[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    whole = raw.view("<i4")[:, 0] >> 8  # the sign bit stood on top: an arithmetic shift extends it
    return whole.astype(np.float32).reshape(-1, 3) * np.float32(2.0**-bits)


def _pack_rotations(quats: Array) -> bytes:
    """Index of the largest of x y z w in the top 2 bits, then the others as sign and 9-bit magnitude."""
    xyzw = quats[:, [1, 2, 3, 0]]
    largest = np.abs(xyzw).argmax(1)
    flip = np.take_along_axis(xyzw, largest[:, None], 1) < 0.0  # q and -q are one rotation: the largest is positive
    magnitude = np.minimum(np.rint(np.abs(xyzw) / _ROOT_HALF * _STEPS), _STEPS).astype(np.uint32)
    parts = magnitude | ((xyzw < 0.0) ^ flip).astype(np.uint32) << 9
    packed = largest.astype(np.uint32)
    for axis in range(4):
        packed = np.where(largest == axis, packed, packed << 10 | parts[:, axis])
    out: bytes = packed.astype("<u4").tobytes()
    return out


def _unpack_rotations(data: bytes | bytearray) -> Array:
    packed = np.frombuffer(data, "<u4").astype(np.uint32)
    largest = packed >> 30
    xyzw = np.zeros((len(packed), 4), np.float32)
    for axis in (3, 2, 1, 0):
        value = (packed & 511).astype(np.float32) * (_ROOT_HALF / _STEPS)
        stored = largest != axis
        xyzw[:, axis] = np.where(stored, np.where(packed & 512, -value, value), 0.0)
        packed = np.where(stored, packed >> 10, packed)
    left = np.sqrt(np.maximum(1.0 - np.square(xyzw).sum(1), 0.0))
    np.put_along_axis(xyzw, largest.astype(np.int64)[:, None], left[:, None], 1)
    return xyzw[:, [3, 0, 1, 2]]


def _unpack_first_three(data: bytes | bytearray) -> Array:
    """Version 2: x y z in 8 bits, w not negative."""
    xyz = _floats(data, 3) / 127.5 - 1.0
    w: NDArray[np.float32] = np.sqrt(np.maximum(1.0 - np.square(xyz).sum(1, keepdims=True), 0.0))
    return np.concatenate([w, xyz], 1)
