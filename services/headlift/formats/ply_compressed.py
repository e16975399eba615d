"""Compressed PLY, PlayCanvas' packed layout: 16 bytes a Gaussian and 72 a chunk of 256.

Element ``chunk`` holds the bounds of positions, log-scales and colours of 256 Gaussians; element ``vertex`` four words
of 32 bits: position and scale in 11, 10 and 11 bits between the bounds, the three smallest components of the
quaternion (of w x y z, index of the largest on top) in 10 bits, red green blue between the bounds and opacity in 8.
Gaussians are written in Morton order of the whole head, so that a chunk is small and its bounds are tight. An element
``sh`` of higher harmonics, which others write, is left out. Bounds of colours are missing in older files: 0 and 1.
Layout: playcanvas/splat-transform, write-compressed-ply (MIT).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats.axes import PLY_FRAME, Frame, describe_frame, parse_frame
from headlift.formats.cloud import (
    GENERATOR,
    Array,
    Cloud,
    Metadata,
    check_count,
    exp_scales,
    log_scales,
    unit_quats,
)
from headlift.formats.morton import morton_order
from headlift.formats.ply_header import Header

MARK = "packed_position"

_CHUNK = 256
_AXES = ("x", "y", "z")
_MEANS = (*(f"min_{a}" for a in _AXES), *(f"max_{a}" for a in _AXES))
_SCALES = (*(f"min_scale_{a}" for a in _AXES), *(f"max_scale_{a}" for a in _AXES))
_COLORS = ("min_r", "min_g", "min_b", "max_r", "max_g", "max_b")
_WORDS = (MARK, "packed_rotation", "packed_scale", "packed_color")
_BITS = (11, 10, 11)  # of positions and scales
_LOG_LIMIT = 20.0  # log-scales beyond are clipped, as every writer of the format does
_SQRT2 = np.float32(np.sqrt(2.0))
_DEGREES = {9: 1, 24: 2, 45: 3}  # number of f_rest properties in element sh -> SH degree

Words = NDArray[np.uint32]


def encode(cloud: Cloud, *, frame: Frame = PLY_FRAME) -> bytes:
    """A compressed PLY file, its Gaussians in Morton order.

    Args:
        cloud: Gaussians in any frame.
        frame: Frame to write; recorded in a comment, as is the generator.
    """
    cloud = cloud.in_frame(parse_frame(frame))
    order = morton_order(cloud.means)
    means, mean_bounds = _normalize(cloud.means[order])
    scales, scale_bounds = _normalize(np.clip(log_scales(cloud.scales[order]), -_LOG_LIMIT, _LOG_LIMIT))
    colors, color_bounds = _normalize(cloud.colors[order])
    rgba = np.concatenate([colors, cloud.opacities[order, None]], 1)
    words = (_pack(means, _BITS), _pack_rotations(cloud.quats[order]), _pack(scales, _BITS), _pack(rgba, (8,) * 4))
    bounds = np.concatenate([mean_bounds, scale_bounds, color_bounds], 1).astype("<f4")
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment generator {GENERATOR}",
        f"comment frame {describe_frame(frame)}; metres",
        f"element chunk {len(bounds)}",
        *(f"property float {name}" for name in (*_MEANS, *_SCALES, *_COLORS)),
        f"element vertex {len(cloud)}",
        *(f"property uint {name}" for name in _WORDS),
        "end_header\n",
    ]
    return "\n".join(lines).encode("ascii") + bounds.tobytes() + np.stack(words, 1).astype("<u4").tobytes()


def decode(data: bytes, header: Header, *, frame: Frame | None, max_gaussians: int) -> tuple[Cloud, Metadata]:
    """Gaussians of a compressed PLY file whose header has been read; see ``ply.decode``.

    Raises:
        FormatError: Properties or chunks missing, shorter than announced, or too large.
    """
    vertices, chunks = header.element("vertex"), header.element("chunk")
    if vertices is None or chunks is None:
        raise FormatError("A compressed PLY file needs the elements chunk and vertex; this one lacks one of them.")
    colored = set(_COLORS) <= set(chunks.names)
    missing = [name for name in (*_MEANS, *_SCALES) if name not in chunks.names]
    missing += [name for name in _WORDS if name not in vertices.names]
    if missing:
        raise FormatError(f"The compressed PLY file lacks {', '.join(missing)}; it is damaged or of another layout.")
    count = check_count(vertices.count, max_gaussians, "PLY file")
    if chunks.count < -(-count // _CHUNK):
        raise FormatError(
            f"The compressed PLY file has {chunks.count:,} chunks for {count:,} Gaussians; one for every {_CHUNK} is "
            "needed."
        )
    rows = header.rows(data, "vertex")
    bounds = header.rows(data, "chunk")[: -(-count // _CHUNK)]
    position, rotation, scale, color = (_words(rows, name) for name in _WORDS)
    rgba = _unpack(color, (8,) * 4)
    cloud = Cloud(
        means=_between(_unpack(position, _BITS), bounds, _MEANS),
        quats=_unpack_rotations(rotation),
        scales=exp_scales(_between(_unpack(scale, _BITS), bounds, _SCALES)),
        opacities=rgba[:, 3],
        colors=_between(rgba[:, :3], bounds, _COLORS) if colored else rgba[:, :3],
        frame=parse_frame(frame or header.frame or PLY_FRAME),
    )
    harmonics = header.element("sh")
    degree = _DEGREES.get(len(harmonics.names), 0) if harmonics else 0
    return cloud, Metadata("ply", "1.0", count, cloud.frame, header.generator, degree)


def _normalize(values: Array) -> tuple[Array, Array]:  # [N, 3] -> [N, 3] in 0..1, [chunks, 6]
    """Values between the bounds of their chunk, and the bounds: lows, then highs."""
    starts = np.arange(0, len(values), _CHUNK)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    size = high - low
    chunk = np.arange(len(values)) // _CHUNK
    shares = (values - low[chunk]) / np.where(size > 0.0, size, np.float32(1.0))[chunk]
    return np.clip(shares, 0.0, 1.0), np.concatenate([low, high], 1)


def _between(shares: Array, bounds: NDArray[np.void], names: tuple[str, ...]) -> Array:
    """Values of shares 0..1 between the bounds of their chunk."""
    with np.errstate(over="ignore", invalid="ignore"):  # bounds of hostile files; judged in to_gaussians
        low = np.stack([bounds[name] for name in names[:3]], 1).astype(np.float32)
        high = np.stack([bounds[name] for name in names[3:]], 1).astype(np.float32)
        chunk = np.arange(len(shares)) // _CHUNK
        values: Array = low[chunk] * (np.float32(1.0) - shares) + high[chunk] * shares
    return values


def _words(rows: NDArray[np.void], name: str) -> Words:
    """A property as unsigned 32-bit words."""
    values = rows[name]
    if values.dtype.kind not in "iu":
        raise FormatError(f"Property {name} of the compressed PLY file is no integer; it is not valid.")
    words: Words = values.astype(np.uint32)
    return words


def _pack(shares: Array, bits: tuple[int, ...]) -> Words:
    """Shares 0..1 in words, the first on top."""
    packed = np.zeros(len(shares), np.uint32)
    for column, width in zip(shares.T, bits, strict=True):
        packed = packed << np.uint32(width) | np.rint(column * ((1 << width) - 1)).astype(np.uint32)
    return packed


def _unpack(packed: Words, bits: tuple[int, ...]) -> Array:
    shares = np.empty((len(packed), len(bits)), np.float32)
    for i in reversed(range(len(bits))):
        top = (1 << bits[i]) - 1
        shares[:, i] = (packed & np.uint32(top)) / np.float32(top)
        packed = packed >> np.uint32(bits[i])
    return shares


def _pack_rotations(quats: Array) -> Words:
    """Index of the largest of w x y z, then the others in their order, -sqrt(1/2)..sqrt(1/2) in 10 bits."""
    quats = unit_quats(quats)
    largest = np.abs(quats).argmax(1)
    quats = quats * np.copysign(np.float32(1.0), np.take_along_axis(quats, largest[:, None], 1))
    levels = np.rint(np.clip(quats / _SQRT2 + np.float32(0.5), 0.0, 1.0) * 1023).astype(np.uint32)
    packed: Words = largest.astype(np.uint32)
    for i in range(4):
        packed = np.where(largest == i, packed, packed << np.uint32(10) | levels[:, i])
    return packed


def _unpack_rotations(packed: Words) -> Array:
    largest = packed >> np.uint32(30)
    quats = np.zeros((len(packed), 4), np.float32)
    for i in (3, 2, 1, 0):
        stored = largest != i
        value = ((packed & np.uint32(1023)) / np.float32(1023) - np.float32(0.5)) * _SQRT2
        quats[:, i] = np.where(stored, value, 0.0)
        packed = np.where(stored, packed >> np.uint32(10), packed)
    left = np.sqrt(np.maximum(1.0 - np.square(quats).sum(1), 0.0))
    np.put_along_axis(quats, largest.astype(np.int64)[:, None], left[:, None], 1)
    return quats
