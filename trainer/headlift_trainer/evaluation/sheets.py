"""Contact sheets: which heads to show, and their pictures small enough for one page.

Legend: V views, S picture side.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

TILE = 144  # pixels a side on the page
_QUALITY = 82


@dataclass(frozen=True)
class Strip:
    """One method's views of one head in one picture, side by side."""

    method: str
    webp: bytes

    @property
    def data_uri(self) -> str:
        """For an ``<img>`` that needs no network."""
        return "data:image/webp;base64," + base64.b64encode(self.webp).decode()


@dataclass(frozen=True)
class Sheet:
    """One head: a strip for each method, a title and a line about it."""

    subject: str
    title: str
    about: str
    views: tuple[str, ...]
    strips: tuple[Strip, ...]


def strip(method: str, pictures: Tensor) -> Strip:
    """Pictures [V, 3, S, S] in 0..1, side by side."""
    small = (
        F.interpolate(pictures, size=(TILE, TILE), mode="area")
        if pictures.shape[-1] >= TILE
        else F.interpolate(pictures, size=(TILE, TILE), mode="bilinear", align_corners=False)
    )
    row = (small.clamp(0, 1) * 255 + 0.5).byte().permute(2, 0, 3, 1).reshape(TILE, -1, 3)
    buffer = io.BytesIO()
    Image.fromarray(row.numpy()).save(buffer, "WEBP", quality=_QUALITY)
    return Strip(method, buffer.getvalue())


def chosen(scores: dict[str, float], each: int = 3) -> dict[str, str]:
    """Heads worth a look, by their score: the worst, some in the middle, the best; head to what it is."""
    order = sorted(scores, key=lambda subject: (scores[subject], subject))
    middle = max(0, (len(order) - each) // 2)
    groups = (("worst", order[:each]), ("typical", order[middle : middle + each]), ("best", order[::-1][:each]))
    found: dict[str, str] = {}
    for name, subjects in groups:
        for subject in subjects:
            found.setdefault(subject, name)
    return found
