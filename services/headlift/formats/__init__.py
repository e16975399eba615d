"""Files and messages of Gaussians: PLY, SPLAT, SPZ, SOG, GLB, USDZ, HTML and the wire codec.

``write`` and ``read`` are the whole face. Every reader takes hostile bytes: it raises FormatError and
nothing else, trusts no count before the bytes are there, and unpacks no more than the count needs.
Coordinates are converted here and nowhere else (``axes``); Gaussians are always in the head frame.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from headlift.errors import FormatError
from headlift.formats import glb, html, ply, ply_compressed, sog, splat, spz, spz_container, usd, wire
from headlift.formats.axes import HEAD_FRAME, Frame
from headlift.formats.cloud import MAX_GAUSSIANS, Cloud, Metadata, from_gaussians, to_gaussians
from headlift.model.types import Gaussians

__all__ = [
    "HEAD_FRAME",
    "MAX_GAUSSIANS",
    "Format",
    "Frame",
    "Gaussians",
    "Metadata",
    "read",
    "read_with_metadata",
    "sniff",
    "write",
]


class Format(StrEnum):
    """A way to store Gaussians; PLY_COMPACT and PLY_COMPRESSED are ones to write, whose files are PLY."""

    PLY = "ply"
    PLY_COMPACT = "ply_compact"
    PLY_COMPRESSED = "ply_compressed"
    SPLAT = "splat"
    SPZ = "spz"
    SOG = "sog"
    GLB = "glb"
    USDZ = "usdz"
    HTML = "html"
    WIRE = "wire"

    @property
    def media_type(self) -> str:
        """Type for HTTP and object stores."""
        return _MEDIA_TYPES.get(self, "application/octet-stream")


_MEDIA_TYPES = {Format.GLB: "model/gltf-binary", Format.USDZ: "model/vnd.usdz+zip", Format.HTML: "text/html"}
_ENCODERS: dict[Format, Callable[..., bytes]] = {
    Format.PLY: ply.encode,
    Format.PLY_COMPACT: ply.encode_compact,
    Format.PLY_COMPRESSED: ply_compressed.encode,
    Format.SPLAT: splat.encode,
    Format.SPZ: spz.encode,
    Format.SOG: sog.encode,
    Format.GLB: glb.encode,
    Format.USDZ: usd.encode,
    Format.HTML: html.encode,
    Format.WIRE: wire.encode,
}
_DECODERS: dict[Format, Callable[..., tuple[Cloud, Metadata]]] = {
    Format.PLY: ply.decode,
    Format.PLY_COMPACT: ply.decode,
    Format.PLY_COMPRESSED: ply.decode,
    Format.SPLAT: splat.decode,
    Format.SPZ: spz.decode,
    Format.SOG: sog.decode,
    Format.GLB: glb.decode,
    Format.USDZ: usd.decode,
    Format.HTML: html.decode,
    Format.WIRE: wire.decode,
}
_MAGICS: tuple[tuple[bytes, Format], ...] = (
    (ply.MAGIC + b"\n", Format.PLY),
    (ply.MAGIC + b"\r\n", Format.PLY),
    (glb.MAGIC, Format.GLB),
    (spz.MAGIC, Format.SPZ),
    (spz_container.GZIP_MAGIC, Format.SPZ),
    (sog.MAGIC, Format.SOG),
    (html.MAGIC, Format.HTML),
    (wire.MAGIC, Format.WIRE),
)


def write(gaussians: Gaussians, fmt: Format | str, **options: Any) -> bytes:
    """A file of the Gaussians.

    Args:
        gaussians: 1 to MAX_GAUSSIANS of them, head frame, on any device.
        fmt: ``ply``, ``ply_compact``, ``ply_compressed``, ``splat``, ``spz``, ``sog``, ``glb``,
            ``usdz`` (needs the extra ``usd``), ``html`` or ``wire``.
        **options: Of the format's ``encode``: ``frame`` (ply, splat, ply_compressed), ``frame`` and ``normals``
            (ply_compact), ``version``, ``fraction_bits`` and ``frame`` (spz), ``integers`` (glb), ``title`` (html),
            ``mode`` and ``level`` (wire).

    Raises:
        InvalidGaussiansError: They are none, too many, not valid, or too far out for the format.
        FormatError: No such format, or a value of an option is out of range.
    """
    return _ENCODERS[_format(fmt)](from_gaussians(gaussians), **options)


def read(data: bytes, fmt: Format | str | None = None, **options: Any) -> Gaussians:
    """Gaussians of a file, in the head frame; see ``read_with_metadata``."""
    return read_with_metadata(data, fmt, **options)[0]


def read_with_metadata(data: bytes, fmt: Format | str | None = None, **options: Any) -> tuple[Gaussians, Metadata]:
    """Gaussians of a file, in the head frame on the CPU, and what the file says of itself.

    Args:
        data: The whole file, ours or of others.
        fmt: Its format; None finds out from its first bytes.
        **options: ``max_gaussians`` (all; default MAX_GAUSSIANS), ``frame`` (all but wire): the frame of its
            coordinates where the file's own word or the format's habit is wrong.

    Raises:
        FormatError: The bytes are not what they claim to be, or exceed a limit.
    """
    kind = sniff(data) if fmt is None else _format(fmt)
    cloud, metadata = _DECODERS[kind](bytes(data), **options)
    return to_gaussians(cloud, f"{kind.upper()} file"), metadata


def sniff(data: bytes) -> Format:
    """The format that the first bytes tell of; SPLAT, which has no magic, where the length allows it.

    Raises:
        FormatError: No format fits.
    """
    for magic, kind in _MAGICS:
        if data[: len(magic)] == magic:
            return Format.USDZ if kind is Format.SOG and _first_file(data).endswith(usd.SUFFIXES) else kind
    if data and len(data) % 32 == 0:
        return Format.SPLAT
    raise FormatError(
        f"{len(data):,} bytes that start with {bytes(data[:8])!r} are of no known format; "
        f"{', '.join(Format)} can be read.",
        field="format",
    )


def _first_file(data: bytes) -> bytes:
    """Name of the first file of a zip archive, in small letters."""
    return bytes(data[30 : 30 + int.from_bytes(data[26:28], "little")]).lower()


def _format(name: Format | str) -> Format:
    try:
        return Format(name)
    except ValueError:
        raise FormatError(
            f"Format {str(name)[:32]!r} is not known; choose {', '.join(Format)}.", field="format"
        ) from None
