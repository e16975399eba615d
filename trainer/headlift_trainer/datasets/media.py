"""Reading what data sets are stored as: frames of videos, pictures inside zip archives, masks, JSON.

Files are opened for each read and closed again: loaders are shared by the processes of a DataLoader.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from headlift.errors import FormatError
from headlift_trainer.datasets.interface import F32, U8

_PICTURE_ERRORS = (OSError, UnidentifiedImageError, ValueError, SyntaxError)


def name_of(path: Path) -> str:
    """A path in messages: the last three parts, nothing about the machine."""
    return "/".join(path.parts[-3:])


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FormatError: The file is missing, or holds something else.
    """
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise FormatError(f"{name_of(path)} is missing or cannot be read.") from error
    except ValueError as error:
        raise FormatError(f"{name_of(path)} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise FormatError(f"{name_of(path)} must hold a JSON object.")
    return data


def read_picture(source: Path | bytes, where: str = "") -> U8:
    """A picture as [H, W, 3]; transparent ones are laid over black.

    Raises:
        FormatError: It is missing or cannot be decoded.
    """
    return _decoded(source, "RGB", where)


def read_mask(source: Path | bytes, where: str = "") -> F32:
    """A greyscale mask as [H, W] in 0..1, of 8 or 16 bits.

    Raises:
        FormatError: It is missing or cannot be decoded.
    """
    pixels = _decoded(source, None, where)
    if pixels.dtype == bool:
        return pixels.astype(np.float32)
    top = 65535.0 if pixels.dtype != np.uint8 else 255.0
    return (pixels.astype(np.float32) / top).clip(0, 1)


def read_labels(source: Path | bytes, where: str = "") -> np.ndarray[Any, Any]:
    """A picture of class numbers as [H, W], as stored.

    Raises:
        FormatError: It is missing or cannot be decoded.
    """
    return _decoded(source, None, where)


def _decoded(source: Path | bytes, mode: str | None, where: str) -> np.ndarray[Any, Any]:
    label = where or (name_of(source) if isinstance(source, Path) else "a picture")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
            if mode == "RGB" and picture.mode == "RGBA":
                black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
                return np.asarray(Image.alpha_composite(black, picture).convert("RGB"))
            if mode is None:
                # A palette picture's numbers are classes; of colours the brightness counts.
                return np.asarray(picture.convert("L") if picture.mode in ("RGB", "RGBA", "LA") else picture)
            return np.asarray(picture.convert(mode))
    except FileNotFoundError as error:
        raise FormatError(f"{label} is missing.") from error
    except _PICTURE_ERRORS as error:
        raise FormatError(f"{label} is no readable picture.") from error


def read_zipped(archive: Path, names: tuple[str, ...]) -> bytes:
    """The first of `names` that an archive holds.

    Raises:
        FormatError: The archive is missing or damaged, or holds none of them.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            for name in names:
                try:
                    return file.read(name)
                except KeyError:
                    continue
    except FileNotFoundError as error:
        raise FormatError(f"{name_of(archive)} is missing.") from error
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise FormatError(f"{name_of(archive)} is no readable zip archive.") from error
    raise FormatError(f"{name_of(archive)} lacks {names[0]}.")


def zipped_names(archive: Path) -> list[str]:
    """Names of the files in an archive.

    Raises:
        FormatError: It is missing or damaged.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            return [name for name in file.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{name_of(archive)} is missing or no readable zip archive.") from error


def read_frame(path: Path, index: int) -> U8:
    """Frame `index` of a video, [H, W, 3]; decoding starts at the nearest key frame before it.

    Raises:
        FormatError: The video is missing, damaged or shorter.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate, base = stream.average_rate, stream.time_base
            first = stream.start_time or 0
            if index and rate and base:
                container.seek(first + round(index / rate / base), stream=stream)
            for count, frame in enumerate(container.decode(stream)):
                known = frame.pts is not None and bool(rate) and base is not None
                now = round((frame.pts - first) * base * rate) if known else count  # type: ignore[operator]
                if now >= index:
                    return np.asarray(frame.to_ndarray(format="rgb24"))
    except FileNotFoundError as error:
        raise FormatError(f"{name_of(path)} is missing.") from error
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise FormatError(f"{name_of(path)} is no readable video.") from error
    raise FormatError(f"{name_of(path)} has no frame {index}; it is shorter.")


def frame_count(path: Path) -> int:
    """Frames of a video, without decoding them.

    Raises:
        FormatError: The video is missing or damaged.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return int(stream.frames) or sum(packet.size > 0 for packet in container.demux(stream))
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise FormatError(f"{name_of(path)} is missing or no readable video.") from error
