"""SOG: the archive that PlayCanvas reads, and what is refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headlift import formats
from headlift.errors import FormatError
from headlift.formats.morton import morton_order
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def changed(data: bytes, **changes: Any) -> bytes:
    """The file with entries of its meta.json exchanged."""
    files = unzipped(data)
    return zipped(files | {"meta.json": json.dumps(json.loads(files["meta.json"]) | changes).encode()})


def webp(width: int, height: int, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (width, height)).save(out, "WEBP", **{"lossless": True, **options})
    return out.getvalue()


NOISE = io.BytesIO()
Image.effect_noise((8, 8), 80).convert("RGBA").save(NOISE, "WEBP", lossless=True)
NOISE = NOISE.getvalue()


def test_the_archive_is_what_the_specification_says(bust: Bust) -> None:
    files = unzipped(formats.write(bust(1000), "sog"))
    meta = json.loads(files["meta.json"])
    assert (meta["version"], meta["count"]) == (2, 1000)
    assert {*files} == {"meta.json", "means_l.webp", "means_u.webp", "quats.webp", "scales.webp", "sh0.webp"}
    for name in ("means", "quats", "scales", "sh0"):
        for file in meta[name]["files"]:
            with Image.open(io.BytesIO(files[file])) as image:
                assert image.size == (32, 32)
                assert files[file][12:16] == b"VP8L"  # lossless
    assert (len(meta["scales"]["codebook"]), len(meta["sh0"]["codebook"])) == (256, 256)


def test_gaussians_come_back_in_morton_order(bust: Bust) -> None:
    head = bust(2000)
    after = formats.read(formats.write(head, "sog"))
    ply = head.means.numpy() * np.array([1, -1, -1], np.float32)
    assert np.allclose(after.means, head.means[morton_order(ply)], atol=4e-6)


def test_packed_archives_and_higher_harmonics_of_others_are_read(bust: Bust) -> None:
    data = formats.write(bust(50), "sog")
    packed = zipped(unzipped(data), zipfile.ZIP_DEFLATED)
    assert np.array_equal(formats.read(packed).means, formats.read(data).means)
    _, metadata = formats.read_with_metadata(changed(data, shN={"bands": 2, "files": []}))
    assert metadata.sh_degree == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "not of version 2"),
        ({"count": 0}, "no Gaussians"),
        ({"count": 5_000_000}, "at most 4,000,000"),
        ({"count": 3_000_000}, "pixels for 3,000,000"),
        ({"count": True}, "no count"),
        ({"means": 3}, "no means"),
        ({"quats": {"files": []}}, "no texture 0 of quats"),
        ({"quats": {"files": ["../../etc/passwd"]}}, "lacks"),
        ({"scales": {"codebook": [0.0] * 300, "files": ["scales.webp"]}}, "must be 256 numbers"),
        ({"sh0": {"codebook": ["x"], "files": ["sh0.webp"]}}, "must be 256 numbers"),
        ({"scales": {"codebook": [1e20], "files": ["scales.webp"]}}, "not finite"),
    ],
)
def test_a_meta_that_does_not_hold_is_refused(bust: Bust, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        formats.read(changed(formats.write(bust(50), "sog"), **changes))


@pytest.mark.parametrize(
    ("texture", "message"),
    [
        (b"", "no lossless WebP"),
        (b"RIFF\x1c\0\0\0WEBPVP8 " + bytes(30), "no lossless WebP"),
        (webp(16383, 16), "16383 x 16 pixels"),
        (bytes(b ^ 0x5A if i > 40 else b for i, b in enumerate(NOISE)), "damaged"),
        (NOISE[:60], "damaged"),
        (webp(4, 4), "4 x 4 pixels for 50"),
    ],
)
def test_a_texture_that_does_not_hold_is_refused(bust: Bust, texture: bytes, message: str) -> None:
    files = unzipped(formats.write(bust(50), "sog"))
    with pytest.raises(FormatError, match=message):
        formats.read(zipped(files | {"sh0.webp": texture}))


def test_a_picture_that_states_a_small_size_and_has_a_large_one_takes_no_memory(bust: Bust) -> None:
    """The container's size is judged; a larger one inside is refused by the decoder or by us."""
    files = unzipped(formats.write(bust(50), "sog"))
    large = webp(4000, 4000)
    liar = b"RIFF" + (len(large) + 10).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little")
    liar += bytes([0x10, 0, 0, 0]) + (7).to_bytes(3, "little") * 2 + large[12:]
    with pytest.raises(FormatError):
        formats.read(zipped(files | {"sh0.webp": liar}))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(bust: Bust) -> None:
    files = unzipped(formats.write(bust(50), "sog"))
    with pytest.raises(FormatError, match="more than 1,048,576 bytes"):
        formats.read(zipped(files | {"meta.json": bytes(1 << 26)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(FormatError, match="lacks 'meta"):
        formats.read(zipped({"a": b""}))
