"""SOG, PlayCanvas' compressed splats: lossless WebP textures and a meta.json in one zip archive (version 2).

Every texture has one pixel a Gaussian, row by row: ``means_l`` and ``means_u`` the low and high byte of positions,
16 bits between ``mins`` and ``maxs`` of sign(x) ln(|x| + 1); ``quats`` the three smallest of w x y z, -sqrt(1/2) to
sqrt(1/2) in 8 bits, and 252 plus the index of the largest; ``scales`` indices into a codebook of log-scales; ``sh0``
indices into a codebook of SH coefficients, and opacity. Axes are PLY's, RDF. Files of others may hold higher
harmonics (``shN``), which are left out.

Order of the Gaussians: Morton order of their means, x fastest, 21 bits an axis of the bounding box (``morton``);
neighbours in the head are neighbours in the textures, which is what WebP's predictors live on. The order that a head
had is not kept.
Specification: developer.playcanvas.com, "The SOG format".
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats.axes import PLY_FRAME, Frame, parse_frame
from headlift.formats.cloud import (
    GENERATOR,
    MAX_GAUSSIANS,
    Array,
    Cloud,
    Metadata,
    check_count,
    colors_from_sh,
    exp_scales,
    log_scales,
    sh_from_colors,
    unit_quats,
)
from headlift.formats.codebook import nearest_entries, train_codebook
from headlift.formats.morton import morton_order

MAGIC = b"PK\x03\x04"  # of every zip archive

_META = "meta.json"
_MAX_META = 1 << 20  # bytes
_MAX_TEXTURE = 1 << 26  # bytes of one WebP file: 4,000,000 Gaussians of noise take 16 MB
_MAX_SIDE = 16383  # WebP's
_TOP = 65535
_QUAT_TAG = 252
_SQRT2 = np.float32(np.sqrt(2.0))
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # components that are stored, by the largest
_DEGREES = (0, 1, 2, 3)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first date: the same head gives the same bytes

Pixels = NDArray[np.uint8]


def encode(cloud: Cloud) -> bytes:
    """A SOG file, its Gaussians in Morton order.

    Raises:
        FormatError: So many Gaussians that a texture would be wider than WebP allows.
    """
    cloud = cloud.in_frame(PLY_FRAME)
    order = morton_order(cloud.means)
    levels, mins, maxs = _quantize_means(cloud.means[order])
    scale_book, scales = _quantize(np.maximum(log_scales(cloud.scales[order]), np.float32(-20.0)))
    color_book, colors = _quantize(sh_from_colors(cloud.colors[order]))
    alphas = np.rint(cloud.opacities[order] * 255.0).astype(np.uint8)
    textures = {
        "means_l": (levels & 255).astype(np.uint8),
        "means_u": (levels >> 8).astype(np.uint8),
        "quats": _pack_quats(cloud.quats[order]),
        "scales": scales,
        "sh0": np.concatenate([colors, alphas[:, None]], 1),
    }
    meta = {
        "version": 2,
        "asset": {"generator": GENERATOR},
        "count": len(cloud),
        "means": {"mins": mins, "maxs": maxs, "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": scale_book, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": color_book, "files": ["sh0.webp"]},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_META, _EPOCH), json.dumps(meta, separators=(",", ":")))
        for name, values in textures.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.webp", _EPOCH), _pack_texture(values))
    return out.getvalue()


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of a SOG archive of version 2.

    Args:
        data: The file.
        frame: Frame of its coordinates; None takes PLY's, RDF.
        max_gaussians: Refuse files that announce more.

    Raises:
        FormatError: No zip archive, no SOG, of version 1, textures missing, damaged, too small or too large.
    """
    archive = _open(data)
    meta = _read_meta(archive)
    count = check_count(_whole(meta.get("count")), max_gaussians, "SOG file")

    def texture(part: str, index: int = 0) -> Pixels:
        files = _object(meta, part).get("files")
        if not isinstance(files, list) or len(files) <= index or not isinstance(files[index], str):
            raise FormatError(f"meta.json of the SOG file names no texture {index} of {part}; it is not valid.")
        return _read_texture(archive, files[index], count)

    means = _object(meta, "means")
    low, high = _floats(means.get("mins"), 3, "means.mins"), _floats(means.get("maxs"), 3, "means.maxs")
    levels = texture("means")[:, :3].astype(np.float32) + texture("means", 1)[:, :3] * np.float32(256.0)
    scale_book = _floats(_object(meta, "scales").get("codebook"), 256, "scales.codebook")
    color_book = _floats(_object(meta, "sh0").get("codebook"), 256, "sh0.codebook")
    sh0 = texture("sh0")
    with np.errstate(over="ignore", invalid="ignore"):  # hostile bounds become infinite, and are refused later
        cloud = Cloud(
            means=_exp_means(low + (high - low) * (levels / np.float32(_TOP))),
            quats=_unpack_quats(texture("quats")),
            scales=exp_scales(scale_book[texture("scales")[:, :3]]),
            opacities=sh0[:, 3].astype(np.float32) / 255.0,
            colors=colors_from_sh(color_book[sh0[:, :3]]),
            frame=parse_frame(frame or PLY_FRAME),
        )
    return cloud, Metadata("sog", "2", count, cloud.frame, _generator(meta), _degree(meta))


def _quantize_means(means: Array) -> tuple[NDArray[np.uint16], list[float], list[float]]:
    logs = np.sign(means) * np.log1p(np.abs(means.astype(np.float64)))
    low, high = logs.min(0), logs.max(0)
    size = np.where(high > low, high - low, 1.0)
    return np.rint((logs - low) / size * _TOP).astype(np.uint16), low.tolist(), high.tolist()


def _exp_means(logs: NDArray[Any]) -> Array:
    values: Array = np.copysign(np.expm1(np.abs(logs)), logs).astype(np.float32)
    return values


def _quantize(values: Array) -> tuple[list[float], Pixels]:  # [N, 3] -> codebook of 256, indices [N, 3]
    book = train_codebook(values.ravel(), 256)
    return book.tolist(), nearest_entries(values, book).astype(np.uint8)


def _pack_quats(quats: Array) -> Pixels:  # [N, 4] wxyz -> [N, 4]
    quats = unit_quats(quats)
    largest = np.abs(quats).argmax(1)
    factor = np.copysign(_SQRT2, np.take_along_axis(quats, largest[:, None], 1))
    others = np.take_along_axis(quats, _OTHERS[largest], 1) * factor
    levels = np.rint(np.clip(others * 0.5 + 0.5, 0.0, 1.0) * 255.0)
    return np.concatenate([levels, largest[:, None] + _QUAT_TAG], 1).astype(np.uint8)


def _unpack_quats(pixels: Pixels) -> Array:
    """Quaternions; the identity where the tag is none."""
    known = pixels[:, 3] >= _QUAT_TAG
    largest = np.where(known, pixels[:, 3].astype(np.int64) - _QUAT_TAG, 0)
    others = np.where(known[:, None], (pixels[:, :3] / np.float32(127.5) - 1) / _SQRT2, 0).astype(np.float32)
    quats = np.zeros((len(pixels), 4), np.float32)
    np.put_along_axis(quats, _OTHERS[largest], others, 1)
    left = np.sqrt(np.maximum(1.0 - np.square(others).sum(1, keepdims=True), 0.0))
    np.put_along_axis(quats, largest[:, None], left, 1)
    return quats


def _pack_texture(values: Pixels) -> bytes:  # [N, 3 or 4]
    """A lossless WebP file about square, its sides multiples of 4, as PlayCanvas writes them."""
    from PIL import Image  # here: the client imports formats, and most of its calls need no pictures

    width = -(-int(np.ceil(np.sqrt(len(values)))) // 4) * 4
    height = -(-len(values) // (width * 4)) * 4
    if max(width, height) > _MAX_SIDE:
        raise FormatError(f"{len(values):,} Gaussians need textures wider than WebP's {_MAX_SIDE:,}; write SPZ.")
    pixels = np.zeros((height * width, 4), np.uint8)
    pixels[:, 3] = 255
    pixels[: len(values), : values.shape[1]] = values
    out = io.BytesIO()
    # exact: the colour of pixels without opacity is data, too.
    Image.fromarray(pixels.reshape(height, width, 4)).save(out, "WEBP", lossless=True, exact=True, quality=80, method=4)
    return out.getvalue()


def _open(data: bytes) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_ERRORS:
        raise FormatError("These bytes are no whole zip archive; a SOG file is one. Fetch it again.") from None


_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError, zlib.error)


def _read_file(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A file of the archive, of at most ``limit`` bytes."""
    try:
        with archive.open(name) as file:
            content = file.read(limit + 1)
    except KeyError:
        raise FormatError(f"The SOG file lacks {name[:64]!r}; it is not whole.") from None
    except _ZIP_ERRORS:
        raise FormatError(f"{name[:64]!r} in the SOG file is damaged or encrypted; fetch it again.") from None
    if len(content) > limit:
        raise FormatError(f"{name[:64]!r} in the SOG file has more than {limit:,} bytes; it is not valid.")
    return content


def _read_meta(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        meta = json.loads(_read_file(archive, _META, _MAX_META))
    except (ValueError, RecursionError):
        raise FormatError("meta.json of the SOG file cannot be parsed; the file is damaged.") from None
    if not isinstance(meta, dict) or meta.get("version") != 2:
        raise FormatError("meta.json of the SOG file is not of version 2; convert it with a current splat-transform.")
    return meta


def _read_texture(archive: zipfile.ZipFile, name: str, count: int) -> Pixels:  # -> [count, 4]
    """Pixels of the first ``count`` Gaussians; the size is judged before a pixel is unpacked."""
    from PIL import Image

    data = _read_file(archive, name, _MAX_TEXTURE)
    width, height = _texture_size(data, name)
    if not count <= width * height <= 2 * count + 4096:
        raise FormatError(
            f"{name[:64]!r} in the SOG file has {width} x {height} pixels for {count:,} Gaussians; it is not valid."
        )
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            if image.size != (width, height):
                raise FormatError(f"{name[:64]!r} in the SOG file states two sizes; it is damaged.")
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, EOFError):
        raise FormatError(f"{name[:64]!r} in the SOG file is no WebP picture, or damaged.") from None
    return np.ascontiguousarray(pixels.reshape(-1, 4)[:count])


def _texture_size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of a WebP file as its first chunk states them: a decoder takes memory for them at once."""
    kind, head = data[12:16], data[20:30]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(head) == 10:
        if kind == b"VP8L" and head[0] == 0x2F:
            bits = int.from_bytes(head[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if kind == b"VP8X" and not head[0] & 0x02:  # not animated
            return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    raise FormatError(f"{name[:64]!r} in the SOG file is no lossless WebP picture; it is not valid.")


def _object(meta: dict[str, Any], name: str) -> dict[str, Any]:
    value = meta.get(name)
    if not isinstance(value, dict):
        raise FormatError(f"meta.json of the SOG file has no {name}; it is not valid.")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError("meta.json of the SOG file gives no count; it is not valid.")
    return value


def _floats(value: object, count: int, name: str) -> Array:
    """``count`` numbers; a shorter codebook is filled up with zeros, as the textures of others never point there."""
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= count
        or (count == 3 and len(value) != 3)
        or not all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e30 for v in value)
    ):
        raise FormatError(f"{name} in meta.json of the SOG file must be {count} numbers; it is not valid.")
    out = np.zeros(count, np.float32)
    out[: len(value)] = value
    return out


def _generator(meta: dict[str, Any]) -> str:
    asset = meta.get("asset")
    generator = asset.get("generator") if isinstance(asset, dict) else None
    return generator[:200] if isinstance(generator, str) else ""


def _degree(meta: dict[str, Any]) -> int:
    harmonics = meta.get("shN")
    bands = harmonics.get("bands") if isinstance(harmonics, dict) else None
    return bands if isinstance(bands, int) and bands in _DEGREES else 0
