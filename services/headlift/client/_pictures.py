"""Pictures and files: as messages, and as plain objects."""

from __future__ import annotations

import io
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headlift.errors import InvalidInputError
from headlift.v1 import picture_pb2

if TYPE_CHECKING:  # numpy and Pillow are most of what importing this package would cost
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

PictureFormat = Literal["jpeg", "png", "webp", "raw_uint8", "raw_float32"]
PictureFile = bytes | str | os.PathLike[str]  # the file itself, or its path


@dataclass(frozen=True)
class RenderedPicture:
    """One picture as it came."""

    data: bytes
    format: PictureFormat
    width: int  # px
    height: int  # px
    channels: int  # 3, or 4 with opacity

    def array(self) -> npt.NDArray[np.uint8] | npt.NDArray[np.float32]:
        """[H, W, channels]: float32 0..1 of raw_float32, else uint8."""
        import numpy as np
        from PIL import Image

        if self.format == "raw_float32":
            return np.frombuffer(self.data, "<f4").reshape(self.height, self.width, self.channels)
        if self.format == "raw_uint8":
            return np.frombuffer(self.data, np.uint8).reshape(self.height, self.width, self.channels)
        return np.asarray(Image.open(io.BytesIO(self.data)))

    def image(self) -> Image.Image:
        """For Pillow."""
        import numpy as np
        from PIL import Image

        pixels = self.array()
        if pixels.dtype == np.float32:
            pixels = (pixels * 255.0 + 0.5).astype(np.uint8)
        return Image.fromarray(pixels)


def picture_of(message: picture_pb2.Picture) -> RenderedPicture:
    """A Picture message as a plain object."""
    name = picture_pb2.PictureFormat.Name(message.format).removeprefix("PICTURE_FORMAT_").lower()
    return RenderedPicture(message.data, name, message.width_px, message.height_px, message.channel_count)  # type: ignore[arg-type]


def picture_options(
    width: int, height: int, format: PictureFormat, quality: int, alpha: bool, sharpen: bool | None
) -> picture_pb2.PictureOptions:
    """How pictures are made; ``sharpen`` None leaves it to the server, ``quality`` 0 too."""
    names = {None: "UNSPECIFIED", True: "ON", False: "OFF"}
    return picture_pb2.PictureOptions(
        width_px=width,
        height_px=height,
        format=enum_value(picture_pb2.PictureFormat, "PICTURE_FORMAT_", format, "format"),
        quality=quality,
        alpha=alpha,
        sharpening=picture_pb2.Sharpening.Value(f"SHARPENING_{names[sharpen]}"),
    )


def read_file(file: PictureFile, field: str = "picture") -> bytes:
    """The bytes of a file given as itself or as a path. InvalidInputError: it cannot be read."""
    if isinstance(file, bytes):
        return file
    path = Path(file)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", reason="NO_FILE", field=field) from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. InvalidInputError: it cannot be written."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written: {error.strerror}.", reason="NO_FILE", field="path"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def enum_value(enum: Any, prefix: str, name: str, field: str) -> Any:
    """Number of an enum value by its short name. InvalidInputError: there is none."""
    try:
        return enum.Value(prefix + name.upper())
    except ValueError:
        choices = ", ".join(k.removeprefix(prefix).lower() for k in enum.keys()[1:])
        raise InvalidInputError(f"{field} is {name!r}; it must be one of {choices}.", field=field) from None
