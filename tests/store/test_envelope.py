import random

import pytest

from headlift.errors import CorruptBlobError
from headlift.store.envelope import HEADER_BYTES, seal, unseal


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 40])
def test_what_was_sealed_comes_out(payload):
    assert unseal(seal(payload, "wire"), "wire") == payload


def test_every_flipped_header_byte_is_detected():
    blob = seal(b"payload" * 100, "wire")
    for at in range(HEADER_BYTES):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(blob)
            damaged[at] ^= flip
            with pytest.raises(CorruptBlobError):
                unseal(bytes(damaged), "wire")


def test_a_thousand_flipped_payload_bytes_are_detected():
    blob, generator = seal(random.Random(0).randbytes(20_000), "wire"), random.Random(1)
    for _ in range(1000):
        damaged = bytearray(blob)
        damaged[generator.randrange(HEADER_BYTES, len(blob))] ^= generator.randrange(1, 256)
        with pytest.raises(CorruptBlobError):
            unseal(bytes(damaged), "wire")


def test_every_shortened_or_lengthened_blob_is_detected():
    blob = seal(b"payload" * 20, "wire")
    for length in range(len(blob)):
        with pytest.raises(CorruptBlobError):
            unseal(blob[:length], "wire")
    with pytest.raises(CorruptBlobError):
        unseal(blob + b"\0", "wire")


def test_a_payload_of_another_codec_is_refused():
    with pytest.raises(CorruptBlobError, match="'json' where 'wire'"):
        unseal(seal(b"{}", "json"), "wire")
