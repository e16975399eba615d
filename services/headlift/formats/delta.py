"""The delta codec: a head as what changed since the head before, both in the same order of Gaussians.

A sequence begins with a keyframe, which is a message of the wire codec. Every head is laid onto a lattice: whole
numbers of fixed steps for positions, quaternion components, log-scales, opacities and colours, 14 planes. A delta
holds, plane by plane, how far the numbers moved since the head that the *decoder* has, so that errors never add up:
whatever came before, a decoded value lies within half a step and the dead zone of its own. Moves within the dead zone
are left out, which keeps what only flickers from being sent. Positions of neighbours in the anchor order move alike,
so their planes hold differences between neighbours. Planes take 0, 1, 2 or 4 bytes a number, zstd takes the rest.

Layout, little-endian: a header of 52 bytes (magic, u8 version, u8 mode 0, u16 flags 0, u32 count, u32 length of the
body, f64 position step in metres, f64 log-scale step, 14 widths in bytes, 2 zeros, u32 CRC-32 of all the rest), then
one zstd frame of the planes, high bytes before low ones. Keyframes are decoded to float32 and laid onto the lattice on
both sides; where two machines disagree about an exponential's last bit, a number may differ by one step until the next
keyframe, and by no more.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import zstandard
from numpy.typing import NDArray

from headlift.errors import FormatError, InvalidGaussiansError
from headlift.formats import wire
from headlift.formats.axes import HEAD_FRAME
from headlift.formats.cloud import MAX_GAUSSIANS, Array, Cloud, from_gaussians, to_gaussians, unit_quats
from headlift.formats.inflate import unzstd
from headlift.model.types import Gaussians

MAGIC = b"HLGD"
QUAT_STEP = math.sqrt(0.5) / 127  # the wire codec's
UNIT_STEP = 1.0 / 255.0  # of opacities and colours
MIN_SCALE = 1e-9  # m; smaller ones are all the same to a picture
_VERSION = 1
_HEAD = struct.Struct("<4sBBHIIdd")
_START = 52
_PLANES = 14
_MEANS, _QUATS, _LOGS, _UNITS = slice(0, 3), slice(3, 7), slice(7, 10), slice(10, 14)
_FARTHEST = 1 << 28  # levels; differences of differences still fit into 32 bits
_WIDTHS = (0, 1, 2, 4)
_WHAT = "delta message"
Levels = NDArray[np.int32]  # [14, N]


@dataclass(frozen=True)
class DeltaOptions:
    """How exactly heads come back.

    The defaults are six times smaller than whole heads at 56 dB in the picture (a face that moves a little); steps of
    15e-6 m and no dead zone are three times smaller at 64 dB.

    Attributes:
        position_step_m: Metres between two positions that can be told apart, 1e-9..1e-3.
        log_step: The same for the natural logarithm of scales, 1e-4..0.5.
        position_dead: Steps that a position may be off before it is sent, 0..16.
        dead: The same for all other attributes.
        level: zstd's, 1..19.
    """

    position_step_m: float = 30e-6
    log_step: float = 0.02
    position_dead: int = 0
    dead: int = 1
    level: int = 1

    def __post_init__(self) -> None:
        _check_steps(self.position_step_m, self.log_step)
        if not 0 <= min(self.position_dead, self.dead) <= max(self.position_dead, self.dead) <= 16:
            raise FormatError(f"Dead zones are {self.position_dead} and {self.dead} steps; they must be 0..16.")
        if not 1 <= self.level <= 19:
            raise FormatError(f"zstd level is {self.level}; it must be 1..19.", field="level")


class DeltaEncoder:
    """The sending side of one sequence."""

    def __init__(self, options: DeltaOptions | None = None) -> None:
        self.options = options or DeltaOptions()
        self._base: Levels | None = None

    def keyframe(self, head: Gaussians | bytes) -> bytes:
        """``head`` whole, as a wire message; it may be given as one. FormatError: it is not one."""
        data = head if isinstance(head, bytes) else wire.encode(from_gaussians(head))
        cloud, _ = wire.decode(data)
        self._base = _levels(cloud, self.options.position_step_m, self.options.log_step, None)
        return data

    def delta(self, head: Gaussians) -> bytes | None:
        """``head`` as a change of the one before; None where only a keyframe will do."""
        options, base = self.options, self._base
        if base is None or base.shape[1] != len(head):
            return None
        try:
            target = _levels(from_gaussians(head), options.position_step_m, options.log_step, base)
        except InvalidGaussiansError:
            return None
        moves = target - base
        for planes, dead in ((_MEANS, options.position_dead), (slice(3, _PLANES), options.dead)):
            if dead:
                moves[planes][np.abs(moves[planes]) <= dead] = 0
        self._base = base + moves
        moves[_MEANS] = np.diff(moves[_MEANS], axis=1, prepend=np.int32(0))
        return _pack(moves, options)


class DeltaDecoder:
    """The receiving side of one sequence."""

    def __init__(self) -> None:
        self._key: Cloud | None = None
        self._base: Levels | None = None
        self._steps = (0.0, 0.0)

    def keyframe(self, data: bytes) -> Gaussians:
        """A whole head. FormatError: it is not one."""
        cloud, _ = wire.decode(data)
        self._key, self._base = cloud, None
        return to_gaussians(cloud, _WHAT)

    def delta(self, data: bytes) -> Gaussians:
        """The head that ``data`` makes of the one before.

        Raises:
            FormatError: There was no keyframe, it had other Gaussians, or the message is damaged. What was decoded
                before stays as it is.
        """
        moves, steps = _unpack(data)
        base = self._base
        if base is None and self._key is not None:
            base = _levels(self._key, *steps, None)
        elif steps != self._steps:
            base = None
        if base is None or base.shape[1] != moves.shape[1]:
            raise FormatError(f"The {_WHAT} does not fit the head before it; ask for a keyframe.")
        moves[_MEANS] = np.cumsum(moves[_MEANS], axis=1)
        levels = base + moves
        _check_levels(levels, steps[1])
        cloud = _cloud(levels.astype(np.int32), *steps)
        self._base, self._steps, self._key = levels.astype(np.int32), steps, None
        return to_gaussians(cloud, _WHAT)


def _levels(cloud: Cloud, position_step_m: float, log_step: float, base: Levels | None) -> Levels:
    """A cloud on the lattice; quaternions on the side of the sphere that ``base`` has them on."""
    cloud = cloud.in_frame(HEAD_FRAME)
    quats = unit_quats(cloud.quats).T
    if base is not None:
        quats = np.where((quats * base[_QUATS]).sum(0) < 0, -quats, quats)
    values = np.empty((_PLANES, len(cloud)))
    values[_MEANS] = cloud.means.T.astype(np.float64) / position_step_m
    values[_QUATS] = quats / QUAT_STEP
    values[_LOGS] = np.log(np.maximum(cloud.scales.T, MIN_SCALE)) / log_step
    values[_UNITS] = np.concatenate([cloud.opacities[None], cloud.colors.T]) / UNIT_STEP
    if float(np.abs(values[_MEANS]).max()) > _FARTHEST:
        raise InvalidGaussiansError(
            f"The head reaches beyond {_FARTHEST * position_step_m:.3g} m; send it whole, or take larger steps."
        )
    return np.rint(values, out=values).astype(np.int32)


def _cloud(levels: Levels, position_step_m: float, log_step: float) -> Cloud:
    def floats(planes: slice, step: float) -> Array:
        return np.ascontiguousarray((levels[planes] * step).T.astype(np.float32))

    units = floats(_UNITS, UNIT_STEP)
    return Cloud(
        means=floats(_MEANS, position_step_m),
        quats=unit_quats(floats(_QUATS, QUAT_STEP)),
        scales=np.exp(floats(_LOGS, log_step)),
        opacities=np.ascontiguousarray(units[:, 0]),
        colors=np.ascontiguousarray(units[:, 1:]),
    )


def _pack(moves: Levels, options: DeltaOptions) -> bytes:
    folded = ((moves << 1) ^ (moves >> 31)).view(np.uint32)  # the sign into the lowest bit
    widths = bytes(0 if not top else 1 if top < 256 else 2 if top < 65536 else 4 for top in folded.max(1))
    rows = [_split(row, width) for row, width in zip(folded, widths, strict=True)]
    body = zstandard.ZstdCompressor(level=options.level).compress(b"".join(rows))
    steps = (options.position_step_m, options.log_step)
    head = _HEAD.pack(MAGIC, _VERSION, 0, 0, moves.shape[1], len(body), *steps) + widths + bytes(2)
    return b"".join((head, zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "little"), body))


def _split(row: NDArray[np.uint32], width: int) -> bytes:
    """The bytes of a row, most significant plane first: like bytes lie together."""
    return row.astype(">u4").view(np.uint8).reshape(-1, 4).T[4 - width :].tobytes()


def _join(data: NDArray[np.uint8], width: int, count: int) -> NDArray[np.uint32]:
    out = np.zeros((count, 4), np.uint8)
    out[:, 4 - width :] = data.reshape(width, count).T
    return out.view(">u4")[:, 0].astype(np.uint32)


def _unpack(data: bytes) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """Moves [14, N] and the steps that they are counted in."""
    if len(data) < _START or not data.startswith(MAGIC):
        raise FormatError(f"These {len(data):,} bytes do not start with the header of a {_WHAT} ({MAGIC!r}).")
    _, version, mode, flags, count, size, position_step_m, log_step = _HEAD.unpack_from(data)
    widths = data[_HEAD.size : _HEAD.size + _PLANES]
    if (version, mode, flags) != (_VERSION, 0, 0) or not set(widths) <= set(_WIDTHS):
        raise FormatError(
            f"The {_WHAT} has version {version}, mode {mode}, flags {flags:#x} or widths that this reader does not "
            f"know; it knows version {_VERSION}. Update Headlift."
        )
    view = memoryview(data)
    crc = zlib.crc32(view[_START:], zlib.crc32(view[: _START - 4])).to_bytes(4, "little")
    if len(data) != _START + size or view[_START - 4 : _START] != crc:
        raise FormatError(f"The {_WHAT} was damaged or cut off on the way; ask for a keyframe.")
    _check_steps(position_step_m, log_step)
    if not 1 <= count <= MAX_GAUSSIANS:
        raise FormatError(f"The {_WHAT} announces {count:,} Gaussians; 1 to {MAX_GAUSSIANS:,} can be read.")
    body = np.frombuffer(unzstd(view[_START:], sum(widths) * count, _WHAT), np.uint8)
    parts = np.split(body, np.cumsum(np.array(list(widths)) * count)[:-1])
    folded = np.stack([_join(part, width, count) for part, width in zip(parts, widths, strict=True)]).astype(np.int64)
    return (folded >> 1) ^ -(folded & 1), (position_step_m, log_step)


def _check_steps(position_step_m: float, log_step: float) -> None:
    if not 1e-9 <= position_step_m <= 1e-3 or not 1e-4 <= log_step <= 0.5:
        raise FormatError(
            f"Steps are {position_step_m:g} m and {log_step:g}; they must be 1e-9..1e-3 m and 1e-4..0.5 (logarithm)."
        )


def _check_levels(levels: NDArray[np.int64], log_step: float) -> None:
    quats, units = levels[_QUATS], levels[_UNITS]
    wrong = (
        int(np.abs(levels[_MEANS]).max()) > 2 * _FARTHEST
        or float(np.abs(levels[_LOGS]).max()) * log_step > 50.0
        or int(np.abs(quats).max()) > 256
        or int(np.abs(quats).max(0).min()) < 1
        or int(units.min()) < 0
        or int(units.max()) > 255
    )
    if wrong:
        raise FormatError(f"The {_WHAT} moves Gaussians out of every range; ask for a keyframe.")
