"""Whatever a file holds to 8-bit sRGB and alpha: modes, bit depths, palettes, ICC profiles, EXIF orientation."""

from __future__ import annotations

import io
import re

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

U8 = npt.NDArray[np.uint8]

_MAX_PROFILE_BYTES = 4_000_000  # printers' CMYK profiles reach 3 MB
_ORIENTATION_TAG = 0x0112
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])""")


def direct_colour(image: Image.Image) -> Image.Image:
    """A loaded picture with 8 bits a channel and no palette: L, LA, RGB, RGBA or CMYK."""
    image = _eight_bit(image)
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("RGBA")
    return image if image.mode in {"L", "LA", "RGB", "RGBA", "CMYK"} else image.convert("RGB")


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[U8, U8 | None, tuple[str, ...]]:
    """Split off alpha and bring the colours to sRGB.

    Args:
        image: What ``direct_colour`` returned.
        profile: The file's ICC profile, if it had one.

    Returns:
        rgb [H, W, 3] sRGB, alpha [H, W] or None, and notes on what was ignored.
    """
    alpha = None
    if "A" in image.getbands():
        alpha = np.array(image.getchannel("A"))
        image = image.convert("RGB" if image.mode == "RGBA" else "L")
    notes: tuple[str, ...] = ()
    if profile:
        image, notes = _apply_profile(image, profile)
    return np.array(image.convert("RGB")), alpha, notes


def upright(opened: Image.Image, rgb: U8, alpha: U8 | None) -> tuple[int, U8, U8 | None]:
    """Undo the orientation that the EXIF or XMP of ``opened`` tells, on arrays made from it.

    Returns:
        The orientation 1..8 and the upright arrays. Unreadable metadata count as upright.
    """
    orientation = _orientation(opened)
    return orientation, _turned(rgb, orientation), None if alpha is None else _turned(alpha, orientation)


def _orientation(opened: Image.Image) -> int:
    """Of EXIF, else of XMP; 1..8, 1 where neither can be read: damaged metadata is no reason to refuse a picture."""
    try:
        orientation = int(opened.getexif().get(_ORIENTATION_TAG, 0))
    except Exception:
        orientation = 0
    if orientation == 0:
        notes = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp") or b""
        found = _XMP_ORIENTATION.search(notes.encode() if isinstance(notes, str) else notes)
        orientation = int(found[1]) if found else 1
    return orientation if 1 <= orientation <= 8 else 1


def _turned(pixels: U8, orientation: int) -> U8:
    """Pixels as EXIF's orientation says they are to be shown."""
    if orientation >= 5:  # 5..8 are stored transposed
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits scaled to 8; other modes unchanged."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    # "I" also carries 16-bit samples (PNG); the range decides, so that real 8-bit values are not blackened.
    top = 65535.0 if image.mode != "F" else 1.0
    scaled = np.clip(values * (255.0 / top) + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(scaled)


def _apply_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture in sRGB, or unchanged with a note where the profile is of no use."""
    if len(profile) > _MAX_PROFILE_BYTES:
        return image, (f"ICC profile of {len(profile)} bytes ignored (limit {_MAX_PROFILE_BYTES})",)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).strip().startswith("sRGB"):
            return image, ()
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return image, (f"ICC profile ignored ({type(error).__name__})",)
    return converted if converted is not None else image, ()
