"""A head as a file, in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from headlift import formats
from headlift.errors import InvalidInputError
from headlift.gateway.validation import check_enum
from headlift.v1 import head_service_pb2 as pb

CHUNK_BYTES = 256 << 10


@dataclass(frozen=True)
class _Kind:
    format: formats.Format
    media_type: str
    version: int | None = None


_KINDS = {
    pb.EXPORT_FORMAT_PLY: _Kind(formats.Format.PLY, "application/x-ply"),
    pb.EXPORT_FORMAT_PLY_COMPACT: _Kind(formats.Format.PLY_COMPACT, "application/x-ply"),
    pb.EXPORT_FORMAT_PLY_COMPRESSED: _Kind(formats.Format.PLY_COMPRESSED, "application/x-ply"),
    pb.EXPORT_FORMAT_SPLAT: _Kind(formats.Format.SPLAT, "application/x-splat"),
    pb.EXPORT_FORMAT_SPZ_V3: _Kind(formats.Format.SPZ, "application/x-spz", 3),
    pb.EXPORT_FORMAT_SPZ_V4: _Kind(formats.Format.SPZ, "application/x-spz", 4),
    pb.EXPORT_FORMAT_SOG: _Kind(formats.Format.SOG, "application/x-sog"),
    pb.EXPORT_FORMAT_GLB: _Kind(formats.Format.GLB, "model/gltf-binary"),
    pb.EXPORT_FORMAT_USDZ: _Kind(formats.Format.USDZ, "model/vnd.usdz+zip"),
    pb.EXPORT_FORMAT_HTML: _Kind(formats.Format.HTML, "text/html"),
    pb.EXPORT_FORMAT_WIRE: _Kind(formats.Format.WIRE, "application/x-headlift"),
}


def check_format(value: int) -> None:
    """Refuse a format that is unspecified or unknown."""
    if value == pb.EXPORT_FORMAT_UNSPECIFIED:
        raise InvalidInputError("format is not given; name the kind of file that you want.", field="format")
    check_enum(value, _KINDS, "format")


def parse_baking(value: int) -> bool:
    """Whether the head is to be baked first; refuses what is unknown."""
    check_enum(value, pb.ExportSharpening.values(), "sharpening")
    return value == pb.EXPORT_SHARPENING_BAKE


def convert(wire: bytes, export_format: pb.ExportFormat.ValueType) -> bytes:
    """The file that a head in the wire codec becomes."""
    kind = _KINDS[export_format]
    if kind.format is formats.Format.WIRE:
        return wire
    options = {} if kind.version is None else {"version": kind.version}
    return formats.write(formats.read(wire, "wire"), kind.format, **options)


def chunks(data: bytes, export_format: pb.ExportFormat.ValueType) -> Iterator[pb.ExportHeadResponse]:
    """A file as the API hands it out; an empty file is one empty chunk."""
    digest = hashlib.sha256(data).hexdigest()
    for offset in range(0, max(len(data), 1), CHUNK_BYTES):
        yield pb.ExportHeadResponse(
            data=data[offset : offset + CHUNK_BYTES],
            offset_bytes=offset,
            total_size_bytes=len(data),
            sha256=digest,
            media_type=_KINDS[export_format].media_type,
        )
