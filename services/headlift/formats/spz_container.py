"""The two containers of SPZ: one gzip stream (versions 2, 3), one zstd stream an attribute (version 4).

Versions 2 and 3, all in one gzip stream: a 16-byte header (magic, version, count, u8 SH degree, u8
fraction bits, u8 flags, u8 zero), positions, opacities, colours, scales, rotations, harmonics and, where
flag 2 is set, extension records. Version 4, plain: a 32-byte header (the same 15 bytes, u8 number of
streams, u32 offset of the table, 12 zeros), extension records up to the table, the table (u64 packed and
u64 unpacked size a stream), the zstd streams in the same order. A record: u32 type, u32 length, payload.
Only the sizes that follow from the count are ever unpacked.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import astuple, dataclass

import zstandard

from headlift.errors import FormatError
from headlift.formats.axes import FRAMES, SPZ_FRAME, Frame
from headlift.formats.cloud import check_count
from headlift.formats.inflate import GzipReader, unzstd

MAGIC = b"NGSP"
GZIP_MAGIC = b"\x1f\x8b"

_HEAD = struct.Struct("<4sIIBBBB")
_HEAD_V4 = struct.Struct("<4sIIBBBBI12x")
_ENTRY = struct.Struct("<QQ")
_RECORD = struct.Struct("<II")
_HAS_EXTENSIONS = 0x2
_COORDINATE_SYSTEM = 0xADBE0003  # SPZ_ADOBE_coordinate_system: u32, FRAMES from 1; 9..16 exchange Y and Z
_MAX_EXTENSIONS = 1 << 20  # bytes
_SH_BYTES = (0, 9, 24, 45, 72)  # a Gaussian, by degree
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 9
_WHAT = "SPZ file"


@dataclass(frozen=True)
class Header:
    """What stands on top of an SPZ file, whatever its version."""

    version: int
    count: int
    sh_degree: int
    fraction_bits: int
    frame: Frame = SPZ_FRAME


@dataclass(frozen=True)
class Streams:
    """The attributes in the order of the file, quantised; harmonics above degree 0 left out."""

    positions: bytes | bytearray  # 9 bytes a Gaussian
    alphas: bytes | bytearray  # 1
    colors: bytes | bytearray  # 3
    scales: bytes | bytearray  # 3
    rotations: bytes | bytearray  # 4; 3 in version 2


def pack_gzip(header: Header, streams: Streams) -> bytes:
    """A file of version 3; the same bytes for the same input."""
    records = _frame_record(header.frame)
    flags = _HAS_EXTENSIONS if records else 0
    head = _HEAD.pack(MAGIC, header.version, header.count, header.sh_degree, header.fraction_bits, flags, 0)
    deflater = zlib.compressobj(_GZIP_LEVEL, wbits=31)  # zlib writes no time and no name
    return deflater.compress(b"".join((head, *astuple(streams), records))) + deflater.flush()


def pack_zstd(header: Header, streams: Streams) -> bytes:
    """A file of version 4."""
    raw = astuple(streams)
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    packed = [compressor.compress(stream) for stream in raw]
    records = _frame_record(header.frame)
    counts = (header.version, header.count, header.sh_degree, header.fraction_bits)
    head = _HEAD_V4.pack(MAGIC, *counts, _HAS_EXTENSIONS if records else 0, len(raw), _HEAD_V4.size + len(records))
    table = b"".join(_ENTRY.pack(len(small), len(large)) for small, large in zip(packed, raw, strict=True))
    return b"".join((head, records, table, *packed))


def _frame_record(frame: Frame) -> bytes:
    """The coordinate-system record; none for SPZ's own frame, because older readers stumble over records."""
    if frame == SPZ_FRAME:
        return b""
    return _RECORD.pack(_COORDINATE_SYSTEM, 4) + (FRAMES.index(frame) + 1).to_bytes(4, "little")


def unpack(data: bytes, max_gaussians: int) -> tuple[Header, Streams]:
    """Header and attributes of a file of version 2, 3 or 4.

    Raises:
        FormatError: Not SPZ, of another version, damaged, shorter or longer than announced, or too large.
    """
    if data.startswith(GZIP_MAGIC):
        return _unpack_gzip(data, max_gaussians)
    if data.startswith(MAGIC):
        return _unpack_zstd(data, max_gaussians)
    raise FormatError("These bytes start with neither gzip's magic nor 'NGSP'; they are not an SPZ file.")


def _unpack_gzip(data: bytes, max_gaussians: int) -> tuple[Header, Streams]:
    reader = GzipReader(data, _WHAT)
    magic, version, count, degree, bits, flags, _ = _HEAD.unpack(reader.read(_HEAD.size))
    if magic != MAGIC or version not in (2, 3):
        raise FormatError(
            f"The gzip stream starts with {magic!r} and version {version}; SPZ in gzip is {MAGIC!r}, version 2 or 3. "
            "Convert the file with a current tool."
        )
    check_count(count, max_gaussians, _WHAT)
    *sizes, harmonics = _sizes(version, count, degree)
    streams = Streams(*(reader.read(size) for size in sizes))
    limit = harmonics + (_MAX_EXTENSIONS if flags & _HAS_EXTENSIONS else 0)
    position, records = 0, bytearray()
    for piece in reader.pieces(limit):  # to the end, so that the checksum is verified
        records += piece[max(0, harmonics - position) :]
        position += len(piece)
    if position < harmonics:
        raise FormatError(f"The {_WHAT} lacks {harmonics - position:,} bytes of harmonics; it is not valid.")
    return Header(version, count, degree, bits, _stored_frame(bytes(records))), streams


def _unpack_zstd(data: bytes, max_gaussians: int) -> tuple[Header, Streams]:
    if len(data) < _HEAD_V4.size:
        raise FormatError(
            f"The {_WHAT} is {len(data)} bytes long; its header alone takes {_HEAD_V4.size}. Fetch it again."
        )
    _, version, count, degree, bits, flags, stream_count, table = _HEAD_V4.unpack_from(data)
    if version != 4:
        raise FormatError(
            f"The {_WHAT} is of version {version}; 2, 3 and 4 can be read. Convert it with a current tool."
        )
    check_count(count, max_gaussians, _WHAT)
    wanted = _sizes(version, count, degree)
    present = len(wanted) if degree else len(wanted) - 1
    # Without harmonics, writers leave their stream out; an empty one is as good.
    if stream_count not in (present, len(wanted)):
        raise FormatError(f"The {_WHAT} has {stream_count} streams; {present} are needed for SH degree {degree}.")
    offset = table + stream_count * _ENTRY.size
    if not _HEAD_V4.size <= table <= _HEAD_V4.size + _MAX_EXTENSIONS or offset > len(data):
        raise FormatError(f"The {_WHAT} puts its table at byte {table:,}, outside of its {len(data):,} bytes.")
    streams = []
    for i, size in enumerate(wanted[:stream_count]):
        packed, unpacked = _ENTRY.unpack_from(data, table + i * _ENTRY.size)
        if unpacked != size or packed > len(data) - offset:
            raise FormatError(
                f"Stream {i} of the {_WHAT} is announced as {packed:,} bytes for {unpacked:,}; {size:,} are needed and "
                f"{len(data) - offset:,} bytes are left. It is cut off or not valid."
            )
        if i < len(wanted) - 1:  # harmonics stay packed
            streams.append(unzstd(memoryview(data)[offset : offset + packed], size, _WHAT))
        offset += packed
    records = data[_HEAD_V4.size : table] if flags & _HAS_EXTENSIONS else b""
    return Header(version, count, degree, bits, _stored_frame(records)), Streams(*streams)


def _sizes(version: int, count: int, degree: int) -> list[int]:
    """Unpacked bytes of each attribute, harmonics last."""
    if degree >= len(_SH_BYTES):
        raise FormatError(f"The {_WHAT} has SH degree {degree}; 0 to {len(_SH_BYTES) - 1} exist.")
    return [count * width for width in (9, 1, 3, 3, 3 if version == 2 else 4, _SH_BYTES[degree])]


def _stored_frame(records: bytes) -> Frame:
    """Frame of the coordinate-system record, RUB where there is none; other records are passed over."""
    at = 0
    while at + _RECORD.size <= len(records):
        kind, length = _RECORD.unpack_from(records, at)
        at += _RECORD.size
        if kind == _COORDINATE_SYSTEM and length >= 4 and at + 4 <= len(records):
            index = int.from_bytes(records[at : at + 4], "little")
            if index > len(FRAMES):
                raise FormatError(
                    f"The {_WHAT} stores coordinate system {index}; 1 to {len(FRAMES)} (Y up or down) can be read."
                )
            return FRAMES[index - 1] if index else SPZ_FRAME
        at += length
    return SPZ_FRAME
