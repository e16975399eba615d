"""Bytes to an upright 8-bit sRGB picture, safely.

Only still JPEG, PNG, WebP, AVIF and (with pillow-heif) HEIC are opened; everything else is refused by name before a
decoder sees it. The header is read first, so a picture over the pixel limit is never decoded. The time limit bites
between the blocks that the JPEG and PNG decoders ask for; WebP, AVIF and HEIC decode in one call whose work the pixel
limit bounds. Large pictures are shrunk on the way, because a portrait crop needs few pixels of them.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from headlift.errors import HeadliftError, PictureTooLargeError, UnreadablePictureError
from headlift.stages.preprocess.read.color import direct_colour, to_srgb, upright
from headlift.stages.preprocess.read.hdr import HLG, PQ, color_codes, hdr_to_srgb
from headlift.stages.preprocess.read.jpeg import JpegFile, parse_jpeg, with_fillers

U8 = npt.NDArray[np.uint8]

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_REFUSED = (  # for a message that names what was sent
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "PSD"),
    (b"BM", "BMP"),
    (b"%PDF", "PDF"),
    (b"\0\0\1\0", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"PK", "ZIP"),
)
_MAX_JPEG_SCANS = 100  # a progressive file has about ten; thousands are a way to make a small file slow
_WHOLE = "Send the whole file."
_WAY_OUT = "Send a still JPEG, PNG, WebP, AVIF or HEIC picture."


@dataclass(frozen=True)
class PictureLimits:
    """What a picture may cost.

    Raises:
        ValueError: A limit is not positive.
    """

    max_bytes: int = 25_000_000
    max_pixels: int = 50_000_000
    max_side: int = 16_384  # pixels
    min_side: int = 32  # pixels; nothing smaller can hold a face
    max_seconds: float = 10.0  # wall time of decoding
    working_side: int = 4096  # pixels; longer pictures are shrunk to at most this

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive.")


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright."""

    rgb: U8  # [H, W, 3] sRGB
    alpha: U8 | None  # [H, W]; None where every pixel is opaque
    source_format: str  # JPEG, PNG, WEBP, AVIF, HEIF or ARRAY
    source_size: tuple[int, int]  # (width, height) upright, before any shrinking, pixels
    exif_orientation: int = 1  # 1..8 as found in the file
    notes: tuple[str, ...] = field(default=())  # what was ignored or assumed, for people

    @property
    def picture_from_source(self) -> tuple[float, float]:
        """Factors (x, y) from upright source pixels to pixels of ``rgb``."""
        return self.rgb.shape[1] / self.source_size[0], self.rgb.shape[0] / self.source_size[1]


class _DeadlineReader(io.BytesIO):
    """Bytes that stop flowing when the time is over, so that a slow decode ends."""

    def __init__(self, data: bytes, limit_s: float) -> None:
        super().__init__(data)
        self._limit_s = limit_s
        self._end = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """Time that is left, seconds."""
        return self._end - time.monotonic()

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise PictureTooLargeError(
                f"Decoding took longer than the limit of {self._limit_s:g} s. Send a smaller or baseline-coded picture."
            )

    def read(self, size: int | None = -1, /) -> bytes:
        self.check()
        return super().read(size)


def sniff_format(data: bytes) -> str:
    """Name the picture format by its first bytes.

    Returns:
        JPEG, PNG, WEBP, AVIF or HEIF.

    Raises:
        UnreadablePictureError: Any other content; the message names it where it is known.
    """
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = {data[8:12]} | {data[i : i + 4] for i in range(16, min(len(data), 64), 4)}
        if brands.intersection(_AVIF_BRANDS):
            return "AVIF"
        if brands.intersection(_HEIF_BRANDS):
            return "HEIF"
    if not data:
        raise UnreadablePictureError(f"The picture is empty (0 bytes). {_WAY_OUT}")
    head = data[:256].lstrip().lower()
    named = next((name for magic, name in _REFUSED if data.startswith(magic)), None)
    if named is None and (head.startswith((b"<svg", b"<?xml")) or b"<svg" in head):
        named = "SVG"
    what = f"{named} is not accepted" if named else "The bytes are not a picture of a known format"
    raise UnreadablePictureError(f"{what}. {_WAY_OUT}")


def decode_picture(data: bytes, limits: PictureLimits | None = None) -> Picture:
    """Decode a still picture into upright 8-bit sRGB.

    Args:
        data: The file's bytes.
        limits: What the picture may cost; the defaults of ``PictureLimits`` otherwise.

    Returns:
        The picture, shrunk to ``limits.working_side`` where it is longer.

    Raises:
        UnreadablePictureError: Not an accepted format, animated, truncated, damaged or wholly transparent.
        PictureTooLargeError: Over the limit on bytes, pixels, side or time.
    """
    limits = limits or PictureLimits()
    if len(data) > limits.max_bytes:
        raise PictureTooLargeError(
            f"The picture has {len(data):,} bytes; the limit is {limits.max_bytes:,}. Compress or shrink it."
        )
    file_format = sniff_format(data)
    if file_format == "HEIF":
        _register_heif()
    jpeg = _checked_jpeg(data) if file_format == "JPEG" else None
    reader = _DeadlineReader(jpeg.data if jpeg else data, limits.max_seconds)
    try:
        picture = _decode(reader, file_format, limits)
        if jpeg and not jpeg.is_ended:
            _check_whole(jpeg, reader)
        return picture
    except HeadliftError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureTooLargeError(f"The picture has more than {limits.max_pixels:,} pixels. Shrink it.") from error
    except MemoryError as error:
        raise PictureTooLargeError("The picture needs more memory than there is. Shrink it.") from error
    except Exception as error:  # decoders meet hostile bytes with a dozen exception types, SyntaxError among them
        raise UnreadablePictureError(f"The {file_format} data is truncated or damaged. {_WAY_OUT}") from error


def _checked_jpeg(data: bytes) -> JpegFile:
    """The picture of a JPEG file, unless decoding it would be slow."""
    jpeg = parse_jpeg(data)
    if jpeg.scan_count > _MAX_JPEG_SCANS:
        raise UnreadablePictureError(
            f"The JPEG has {jpeg.scan_count} scans; at most {_MAX_JPEG_SCANS} are decoded. Save it anew."
        )
    return jpeg


def _check_whole(jpeg: JpegFile, reader: _DeadlineReader) -> None:
    """Refuse a JPEG without an end whose pixels are not all there; decoders fill the rest with grey, without a word.

    What other bytes behind the file's own would change is what these lack.
    """
    if not jpeg.has_all_passes:
        raise UnreadablePictureError(f"The JPEG ends before its last pass over the picture. {_WHOLE}")
    drawn: U8 | None = None
    for data in (jpeg.data, *with_fillers(jpeg)):
        with Image.open(_DeadlineReader(data, reader.left_s), formats=["JPEG"]) as opened:
            pixels = np.asarray(opened)
        if drawn is None:
            drawn = pixels
        changed = np.flatnonzero((drawn != pixels).reshape(len(drawn), -1).any(1))
        if len(changed):
            height = len(drawn)
            share = max(1, round(100 * (height - changed[0]) / height))
            raise UnreadablePictureError(
                f"The JPEG ends early: about {share} % of the picture is missing, from row {changed[0]} of {height} "
                f"on. {_WHOLE}"
            )


def _register_heif() -> None:
    """Register HEIC's opener when it is first needed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise UnreadablePictureError(
            "HEIC is not readable on this server (pillow-heif is not installed). Send JPEG, PNG, WebP or AVIF."
        ) from error
    pillow_heif.register_heif_opener()


def _decode(reader: _DeadlineReader, file_format: str, limits: PictureLimits) -> Picture:
    """Open, check the header, load, shrink, convert, turn upright."""
    with Image.open(reader, formats=[file_format]) as opened:
        size = opened.size
        _check_header(opened, limits)
        if file_format == "JPEG":  # decode at 1/2, 1/4 or 1/8 where that still leaves the working size
            opened.draft(None, _fitted(size, limits.working_side))
        opened.load()
        reader.check()
        image = direct_colour(opened)
        fitted = _fitted(size, limits.working_side)
        if max(fitted) < max(image.size):
            image = image.resize(fitted, Image.Resampling.BICUBIC, reducing_gap=2.0)
        codes = color_codes(reader.getvalue()) if file_format in ("HEIF", "AVIF") else None
        is_hdr = codes is not None and codes[1] in (PQ, HLG)
        # The container's word goes before a profile, which for PQ and HLG can only approximate it.
        rgb, alpha, notes = to_srgb(image, None if is_hdr else opened.info.get("icc_profile"))
        if codes is not None and is_hdr:
            rgb, notes = hdr_to_srgb(rgb, *codes), (*notes, "tone-mapped from high dynamic range")
        orientation, rgb, alpha = upright(opened, rgb, alpha)
    reader.check()
    if alpha is not None and not alpha.any():
        raise UnreadablePictureError("Every pixel of the picture is transparent. Send one with a visible person.")
    if alpha is not None and alpha.min() == 255:
        alpha = None
    if orientation >= 5:
        size = size[::-1]
    return Picture(rgb, alpha, file_format, size, orientation, notes)


def _check_header(opened: Image.Image, limits: PictureLimits) -> None:
    """Refuse by what the header says, before any pixel is decoded."""
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise PictureTooLargeError(
            f"The picture has {width}x{height} = {width * height:,} pixels; "
            f"the limit is {limits.max_pixels:,}. Shrink it."
        )
    if max(width, height) > limits.max_side:
        raise PictureTooLargeError(
            f"The picture is {width}x{height}; a side may have at most {limits.max_side} pixels. Shrink or crop it."
        )
    if min(width, height) < limits.min_side:
        raise UnreadablePictureError(
            f"The picture is {width}x{height}; each side needs at least {limits.min_side} pixels. Send a larger one."
        )
    # The further pictures of a HEIC file are depth and gain maps, not frames; the first is the photograph.
    if opened.format != "HEIF" and getattr(opened, "n_frames", 1) > 1:
        raise UnreadablePictureError(f"The picture has {getattr(opened, 'n_frames', 2)} frames. Send a single still.")


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size whose longer side is at most ``side``."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
