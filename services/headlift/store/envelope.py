"""The envelope around every stored blob, whose checksum finds any changed byte.

Layout, little-endian, 56 bytes before the payload::

    0   4   magic     "HLFB"
    4   2   version   1
    6   2   reserved  0
    8   8   codec     what the payload is, ASCII, padded with zero bytes
    16  8   length    of the payload, bytes
    24  32  digest    SHA-256 over bytes 0..24 and the payload
"""

from __future__ import annotations

import hashlib
import struct

from headlift.errors import CorruptBlobError

MAGIC = b"HLFB"
VERSION = 1
_HEADER = struct.Struct("<4sHH8sQ")
HEADER_BYTES = _HEADER.size + 32


def seal(payload: bytes, codec: str) -> bytes:
    """Put ``payload`` into an envelope; ``codec`` is 1..8 ASCII letters."""
    name = codec.encode("ascii")
    if not 1 <= len(name) <= 8:
        raise ValueError(f"codec {codec!r} must have 1..8 ASCII letters")
    header = _HEADER.pack(MAGIC, VERSION, 0, name, len(payload))
    return header + _digest(header, payload) + payload


def unseal(blob: bytes, codec: str) -> bytes:
    """The payload of an envelope.

    Raises:
        CorruptBlobError: The blob is not the envelope that was sealed, or holds something other than ``codec``.
    """
    if len(blob) < HEADER_BYTES:
        raise CorruptBlobError(f"A blob of {len(blob)} bytes is shorter than its envelope of {HEADER_BYTES}.")
    header, digest = blob[: _HEADER.size], blob[_HEADER.size : HEADER_BYTES]
    payload = memoryview(blob)[HEADER_BYTES:]
    # The digest first: until it matches, no field can be trusted, not even to name the fault.
    if _digest(header, payload) != digest:
        raise CorruptBlobError("A blob does not match its checksum.")
    magic, version, _, name, length = _HEADER.unpack(header)
    if magic != MAGIC or version != VERSION:
        raise CorruptBlobError(f"A blob is of version {version}; this program reads version {VERSION}.")
    if length != len(payload):
        raise CorruptBlobError(f"A blob of {length} bytes came back with {len(payload)}.")
    if name.rstrip(b"\0") != codec.encode("ascii"):
        raise CorruptBlobError(
            f"A blob holds {name.rstrip(bytes(1)).decode('ascii', 'replace')!r} where {codec!r} belongs."
        )
    return bytes(payload)


def is_whole(blob: bytes) -> bool:
    """Whether a blob is an undamaged envelope of any codec."""
    if len(blob) < HEADER_BYTES or not blob.startswith(MAGIC):
        return False
    header, digest = blob[: _HEADER.size], blob[_HEADER.size : HEADER_BYTES]
    return _digest(header, memoryview(blob)[HEADER_BYTES:]) == digest


def _digest(header: bytes, payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(header)
    digest.update(payload)
    return digest.digest()
