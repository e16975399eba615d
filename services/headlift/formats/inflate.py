"""Decompression that never yields more bytes than were asked for."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import zstandard

from headlift.errors import FormatError

_STEP = 1 << 20
_MAX_WINDOW = 1 << 27  # bytes of history that a zstd frame may ask the decoder to keep: 128 MiB, level 22's


class GzipReader:
    """Reads one gzip member in pieces; raises FormatError where the stream is broken or ends early."""

    def __init__(self, data: bytes, what: str) -> None:
        self._inflater = zlib.decompressobj(wbits=31)
        self._rest = data
        self._what = what

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        parts = bytearray()
        while len(parts) < size:
            piece = self._piece(size - len(parts))
            if not piece:
                raise FormatError(
                    f"The {self._what} ends {size - len(parts):,} bytes early; it was cut off. Fetch it again."
                )
            parts += piece
        return bytes(parts)

    def pieces(self, limit: int) -> Iterator[bytes]:
        """What is left, in pieces, through the checksum at the end; at most ``limit`` bytes."""
        unpacked = 0
        while piece := self._piece(_STEP):
            unpacked += len(piece)
            if unpacked > limit:
                raise FormatError(f"The {self._what} unpacks to more bytes than its header announces; it is not valid.")
            yield piece
        if not self._inflater.eof:
            raise FormatError(f"The {self._what} ends before its checksum; it was cut off. Fetch it again.")

    def _piece(self, size: int) -> bytes:
        if self._inflater.eof:
            return b""
        try:
            piece = self._inflater.decompress(self._rest, size)
        except zlib.error:
            raise FormatError(f"The gzip stream of the {self._what} is damaged; fetch the file again.") from None
        self._rest = self._inflater.unconsumed_tail
        return piece


def unzstd(data: bytes | memoryview, size: int, what: str) -> bytearray:
    """The ``size`` bytes that a zstd frame holds.

    The frame's own idea of its size is not trusted: output is pulled until ``size`` is reached.

    Raises:
        FormatError: The frame is damaged, asks for too much memory, or holds fewer or more bytes.
    """
    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    out = bytearray(size)
    view, filled = memoryview(out), 0
    try:
        with decoder.stream_reader(io.BytesIO(data), read_across_frames=False) as stream:
            while filled < size and (got := stream.readinto(view[filled:])):
                filled += got
            surplus = filled == size and bool(stream.read(1))
    except zstandard.ZstdError:
        raise FormatError(f"A zstd stream of the {what} is damaged; fetch the file again.") from None
    if filled != size or surplus:
        relation = "more" if surplus else "fewer"
        raise FormatError(
            f"A zstd stream of the {what} holds {relation} bytes than the {size:,} announced; it is not valid."
        )
    return out
