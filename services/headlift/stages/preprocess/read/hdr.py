"""Pictures of high dynamic range (PQ, HLG) to sRGB: found by their container's colour box, then tone-mapped.

Diffuse white (203 nits, BT.2408) becomes the white of sRGB, so that faces look as in the ordinary picture of the same
scene; only what is near white or brighter is compressed. Transfer functions: BT.2100-3, tables 4 and 5; codes: H.273.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

PQ, HLG = 16, 18  # H.273 transfer_characteristics
_BT2020, _P3 = 9, 12  # H.273 colour_primaries
_WHITE_NITS = 203.0
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
_KNEE = 0.75  # linear, of white; above it highlights are compressed
_ROWS = 256  # at a time, which bounds memory
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BT709_FROM = {
    _BT2020: np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32),
    _P3: np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32),
}
_BOXES_MAX = 2000


def color_codes(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer (H.273) that an HEIC or AVIF file states for its primary picture; None: it does not.

    Gain maps and thumbnails have colour boxes of their own, so the primary item's associations are followed. Damaged
    boxes count as none.
    """
    try:
        meta = next(body for kind, body in _boxes(data) if kind == b"meta")[4:]
        inner = dict(_boxes(meta))
        properties = dict(_boxes(inner[b"iprp"]))
        wide = inner[b"pitm"][0] >= 1
        primary = int.from_bytes(inner[b"pitm"][4 : 8 if wide else 6], "big")
        listed = list(_boxes(properties[b"ipco"]))
        for index in _associations(properties[b"ipma"]).get(primary, []):
            kind, body = listed[index - 1]
            if kind == b"colr" and body[:4] == b"nclx":
                return int.from_bytes(body[4:6], "big"), int.from_bytes(body[6:8], "big")
    except (IndexError, KeyError, StopIteration):
        pass
    return None


def hdr_to_srgb(rgb: U8, primaries: int, transfer: int) -> U8:
    """PQ or HLG codes [H, W, 3] to sRGB; full range."""
    codes = np.arange(256) / 255.0
    linear = (_pq_nits(codes) if transfer == PQ else _hlg_scene(codes)).astype(np.float32)
    out = np.empty_like(rgb)
    for top in range(0, len(rgb), _ROWS):
        light = linear[rgb[top : top + _ROWS]]
        if transfer == HLG:
            luminance = np.maximum(light @ _BT2020_LUMINANCE, 1e-6)[..., None]
            light = _HLG_PEAK_NITS * light * luminance ** (_HLG_GAMMA - 1.0)
        light = light / _WHITE_NITS
        if primaries in _BT709_FROM:
            light = light @ _BT709_FROM[primaries].T
        out[top : top + _ROWS] = _srgb(_compressed(np.maximum(light, 0.0)))
    return out


def _pq_nits(codes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = codes ** (1 / m2)
    return np.asarray(10_000.0 * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1))


def _hlg_scene(codes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scene light 0..1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)


def _compressed(light: F32) -> F32:
    """Light whose brightest channel is at most white, hue kept; unchanged below the knee."""
    peak = light.max(-1, keepdims=True)
    over = np.maximum(peak - _KNEE, 0.0)
    wanted = np.minimum(peak, _KNEE) + (1 - _KNEE) * -np.expm1(-over / (1 - _KNEE))
    return np.asarray(light * (wanted / np.maximum(peak, 1e-6)), np.float32)


def _srgb(light: F32) -> U8:
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)
    return (curved * 255.0 + 0.5).clip(0, 255).astype(np.uint8)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every box side by side (ISO/IEC 14496-12)."""
    at = 0
    for _ in range(_BOXES_MAX):
        if at + 8 > len(data):
            return
        size, start = int.from_bytes(data[at : at + 4], "big"), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(data)
        if end < start:
            return
        yield data[at + 4 : at + 8], data[start:end]
        at = end


def _associations(ipma: bytes) -> dict[int, list[int]]:
    """Of every item, the numbers of its properties from 1. IndexError: the box is cut short."""
    id_bytes, wide = (4 if ipma[0] >= 1 else 2), ipma[3] & 1
    step = 2 if wide else 1
    at, found = 8, {}
    for _ in range(min(int.from_bytes(ipma[4:8], "big"), _BOXES_MAX)):
        item, count = int.from_bytes(ipma[at : at + id_bytes], "big"), ipma[at + id_bytes]
        at += id_bytes + 1
        numbers = [int.from_bytes(ipma[at + step * i : at + step * (i + 1)], "big") for i in range(count)]
        found[item] = [n & (0x7FFF if wide else 0x7F) for n in numbers]  # the top bit: essential
        at += step * count
    return found
