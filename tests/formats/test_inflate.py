"""Bombs: what unpacks to more than was asked for costs neither memory nor time."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard

from headlift import formats
from headlift.errors import FormatError
from headlift.formats.inflate import GzipReader, unzstd

BOMB = 256 << 20


def peak_of(read: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def gzip_bomb(head: bytes) -> bytes:
    """A gzip stream of ``head`` and 256 MiB of zeros, made without holding them."""
    deflater = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    return deflater.compress(head) + b"".join(deflater.compress(zeros) for _ in range(BOMB >> 20)) + deflater.flush()


def test_a_gzip_bomb_in_an_spz_is_stopped() -> None:
    data = gzip_bomb(b"NGSP" + (3).to_bytes(4, "little") + (10).to_bytes(4, "little") + bytes([0, 12, 2, 0]))
    assert peak_of(lambda: formats.read(data)) < 16 << 20


def test_a_zstd_bomb_is_stopped_whatever_size_it_states() -> None:
    for stated in (True, False):
        packed = zstandard.ZstdCompressor(write_content_size=stated).compress(bytes(BOMB))
        assert peak_of(lambda packed=packed: unzstd(packed, 100, "test")) < 16 << 20


def test_exact_sizes_pass() -> None:
    content = b"head" * 1000
    assert unzstd(zstandard.compress(content), 4000, "test") == content
    reader = GzipReader(gzip.compress(content), "test")
    assert reader.read(1000) + b"".join(reader.pieces(3000)) == content


@pytest.mark.parametrize("size", [3999, 4001, 0])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(FormatError, match="bytes than"):
        unzstd(zstandard.compress(b"head" * 1000), size, "test")


def test_a_window_beyond_reason_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=30, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # states the window, not the size
    data = stream.compress(b"x" * 1000) + stream.flush()
    with pytest.raises(FormatError, match="damaged"):
        unzstd(data, 1000, "test")
