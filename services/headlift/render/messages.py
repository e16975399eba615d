"""What requests say about pictures."""

from __future__ import annotations

from headlift.errors import InvalidInputError
from headlift.render.pictures import QUALITY_DEFAULT, Look, PictureFormat
from headlift.v1 import picture_pb2

SIZE_DEFAULT = 512
FORMATS: dict[int, PictureFormat] = {
    picture_pb2.PICTURE_FORMAT_UNSPECIFIED: "png",
    picture_pb2.PICTURE_FORMAT_JPEG: "jpeg",
    picture_pb2.PICTURE_FORMAT_PNG: "png",
    picture_pb2.PICTURE_FORMAT_WEBP: "webp",
    picture_pb2.PICTURE_FORMAT_RAW_UINT8: "raw_uint8",
    picture_pb2.PICTURE_FORMAT_RAW_FLOAT32: "raw_float32",
}
SHARPEN = {
    picture_pb2.SHARPENING_UNSPECIFIED: None,
    picture_pb2.SHARPENING_ON: True,
    picture_pb2.SHARPENING_OFF: False,
}


def look_from_message(options: picture_pb2.PictureOptions) -> Look:
    """The Look that ``options`` ask for.

    Raises:
        InvalidInputError: A value is out of range, or an enum's value is not known; ``field`` says which.
    """
    for name, value, known in (("format", options.format, FORMATS), ("sharpening", options.sharpening, SHARPEN)):
        if value not in known:
            raise InvalidInputError(
                f"picture.{name} is {value}, which this server does not know; it knows {min(known)}..{max(known)}.",
                field=f"picture.{name}",
            )
    return Look(
        width=options.width_px or SIZE_DEFAULT,
        height=options.height_px or SIZE_DEFAULT,
        format=FORMATS[options.format],
        quality=options.quality or QUALITY_DEFAULT,
        alpha=options.alpha,
        sharpen=SHARPEN[options.sharpening],
    )


def message_from_look(look: Look) -> picture_pb2.PictureOptions:
    """Inverse of ``look_from_message``."""
    return picture_pb2.PictureOptions(
        width_px=look.width,
        height_px=look.height,
        format=picture_pb2.PictureFormat.Value(f"PICTURE_FORMAT_{look.format.upper()}"),
        quality=look.quality,
        alpha=look.alpha,
        sharpening=next(k for k, v in SHARPEN.items() if v is look.sharpen),
    )
