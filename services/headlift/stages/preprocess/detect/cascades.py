"""OpenCV's Haar cascades, one set per thread, with counted evidence instead of yes and no."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import cv2.data
import numpy as np
import numpy.typing as npt

from headlift.errors import BackendUnavailableError

U8 = npt.NDArray[np.uint8]

FRONTAL = ("frontalface_alt2", "frontalface_default", "frontalface_alt")
PROFILE = "profileface"
EYES = ("eye", "eye_tree_eyeglasses")
_local = threading.local()


def _cascade(name: str) -> cv2.CascadeClassifier:
    """This thread's own classifier; OpenCV's are not safe to share."""
    loaded: dict[str, cv2.CascadeClassifier] = _local.__dict__.setdefault("cascades", {})
    if name not in loaded:
        loaded[name] = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"))
        if loaded[name].empty():
            raise BackendUnavailableError(
                f"OpenCV {cv2.__version__} carries no cascade {name}. Install opencv-python-headless 4."
                " Or inject another FaceDetector."
            )
    return loaded[name]


def find_squares(
    grey: U8, name: str, *, smallest: float, largest: float = 0.0, step: float = 1.1, votes: int = 3
) -> list[tuple[float, float, float, int]]:
    """Squares that a cascade accepts.

    Args:
        grey: [H, W] picture.
        name: Cascade's name without prefix and suffix.
        smallest: Least side, pixels.
        largest: Greatest side, pixels; 0 means the picture's.
        step: Ratio of neighbouring sizes searched.
        votes: Overlapping raw hits needed.

    Returns:
        (x centre, y centre, side, raw hits), most hits first.
    """
    low = max(int(smallest), 8)
    high = int(largest) or min(grey.shape)
    if min(grey.shape) < low or high < low:
        return []
    boxes, counts = _cascade(name).detectMultiScale2(
        grey, scaleFactor=step, minNeighbors=votes, minSize=(low, low), maxSize=(high, high)
    )
    found = [
        (float(x + w / 2), float(y + h / 2), float(w), int(n))
        for (x, y, w, h), n in zip(boxes, np.ravel(counts), strict=True)
    ]
    return sorted(found, key=lambda f: (-f[3], f[0], f[1]))
