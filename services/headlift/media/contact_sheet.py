"""Contact sheets: labelled images side by side, for people who compare heads."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_LABEL_PX = 26
_GAP_PX = 4
_BACKGROUND, _TEXT = (18, 18, 20), (232, 232, 236)


def contact_sheet(tiles: Sequence[tuple[str, Image.Image]], *, tile_px: int = 320, columns: int = 4) -> Image.Image:
    """Tiles row by row, each fitted into a square of ``tile_px`` with its label below."""
    rows = -(-len(tiles) // columns)
    width, height = columns * (tile_px + _GAP_PX) + _GAP_PX, rows * (tile_px + _LABEL_PX + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (label, picture) in enumerate(tiles):
        x = _GAP_PX + (i % columns) * (tile_px + _GAP_PX)
        y = _GAP_PX + (i // columns) * (tile_px + _LABEL_PX + _GAP_PX)
        fitted = _fit(picture, tile_px)
        sheet.paste(fitted, (x + (tile_px - fitted.width) // 2, y + (tile_px - fitted.height) // 2))
        draw.text((x + tile_px // 2, y + tile_px + _LABEL_PX // 2), label, _TEXT, font, anchor="mm")
    return sheet


def _fit(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
