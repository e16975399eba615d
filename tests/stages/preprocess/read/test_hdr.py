"""HDR pictures: their colour box is found, skin keeps its colour, highlights keep their order."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from headlift.stages.preprocess.read.decode import decode_picture
from headlift.stages.preprocess.read.hdr import HLG, PQ, color_codes, hdr_to_srgb

SRGB, BT709, BT2020 = 13, 1, 9
SKIN = (224, 160, 130)  # sRGB
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
Encode = Callable[..., bytes]


def light_of(srgb: tuple[int, int, int]) -> np.ndarray:
    values = np.array(srgb) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def pq(nits: np.ndarray) -> np.ndarray:
    y = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """Codes of a display of 1000 nits, by the inverse OOTF and the OETF."""
    luminance = max(float(nits @ [0.2627, 0.6780, 0.0593]) / 1000, 1e-9)
    scene = nits / 1000 * luminance ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-6)) + 0.55991073
    )


def coded(light: np.ndarray, transfer: int) -> np.ndarray:
    """A plain picture [64, 64, 3] of linear BT.709 light, 1 being diffuse white, in BT.2020."""
    nits = np.maximum(TO_BT2020 @ light, 0) * 203
    code = (pq if transfer == PQ else hlg)(nits)
    return np.full((64, 64, 3), np.round(code * 255).clip(0, 255), np.uint8)


def avif(encode: Encode, pixels: np.ndarray, transfer: int, primaries: int = BT2020) -> bytes:
    """An AVIF whose colour box says so; Pillow writes it with the codes of sRGB."""
    data = encode(pixels, "AVIF", quality=100, speed=10, subsampling="4:4:4")
    assert data.count(b"colrnclx") == 1
    at = data.index(b"colrnclx") + 8
    return data[:at] + primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big") + data[at + 4 :]


def heic(pixels: np.ndarray, transfer: int, primaries: int = BT2020) -> bytes:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    buffer = io.BytesIO()
    codes = {"color_primaries": primaries, "transfer_characteristics": transfer}
    Image.fromarray(pixels).save(buffer, "HEIF", quality=100, chroma=444, matrix_coefficients=1, **codes)
    return buffer.getvalue()


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize("srgb", [SKIN, (120, 80, 60), (30, 30, 30), (60, 90, 200)])
def test_colours_below_white_are_those_of_the_ordinary_picture(
    encode: Encode, transfer: int, srgb: tuple[int, int, int]
) -> None:
    pixels = coded(light_of(srgb), transfer)
    for data in (avif(encode, pixels, transfer), heic(pixels, transfer)):
        picture = decode_picture(data)
        assert np.abs(picture.rgb[32, 32].astype(int) - srgb).max() <= 8  # a step of 8-bit PQ is as large as 4
        assert picture.notes == ("tone-mapped from high dynamic range",)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_stay_in_order_and_below_white(transfer: int) -> None:
    levels = [coded(np.full(3, level), transfer) for level in (0.5, 0.9, 1.0, 1.5, 2.5)]
    shown = [int(hdr_to_srgb(pixels, BT2020, transfer)[0, 0, 1]) for pixels in levels]
    assert shown == sorted(set(shown))
    assert 235 <= shown[2] < 250
    ramp = hdr_to_srgb(np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2), BT2020, transfer)[0, :, 1]
    assert (np.diff(ramp.astype(int)) >= 0).all()
    assert (ramp[0], ramp[-1]) == (0, 255)


def test_ordinary_pictures_are_left_alone(encode: Encode) -> None:
    pixels = np.full((64, 64, 3), SKIN, np.uint8)
    for data in (encode(pixels, "AVIF", quality=100), heic(pixels, SRGB, BT709)):
        picture = decode_picture(data)
        assert np.abs(picture.rgb[32, 32].astype(int) - SKIN).max() <= 2
        assert picture.notes == ()


def test_the_primary_picture_s_own_colour_box_counts() -> None:
    def box(kind: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    def nclx(transfer: int) -> bytes:
        return box(b"colr", b"nclx" + bytes([0, 9, 0, transfer, 0, 9, 128]))

    listed = box(b"ipco", nclx(SRGB) + box(b"ispe", bytes(12)) + nclx(PQ))
    shared = bytes(4) + (2).to_bytes(4, "big") + bytes([0, 1, 2, 0x82, 1]) + bytes([0, 2, 2, 0x82, 0x83])
    for primary, transfer in ((1, SRGB), (2, PQ)):
        meta = box(b"pitm", bytes([0, 0, 0, 0, 0, primary])) + box(b"iprp", listed + box(b"ipma", shared))
        data = box(b"ftyp", b"avif") + box(b"meta", bytes(4) + meta)
        assert color_codes(data) == (9, transfer)
        for cut in range(len(data)):
            assert color_codes(data[:cut]) in (None, (9, transfer))
    assert color_codes(b"") is None
    assert color_codes(box(b"meta", bytes(4) + box(b"pitm", b""))) is None
