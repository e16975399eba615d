"""Pictures that the preprocess tests share."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import skimage.data
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """The public-domain portrait that scikit-image carries, [512, 512, 3]."""
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Array or Pillow picture to file bytes."""

    def encoded(picture: np.ndarray | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encoded
