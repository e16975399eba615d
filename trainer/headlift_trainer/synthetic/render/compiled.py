"""What the renderer's compiled files share: the decorator, the kinds of material, a hash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])
Array = Any  # numba takes plain arrays; shapes stand beside each argument

KIND_PLAIN, KIND_SKIN, KIND_HAIR, KIND_EYE = 0, 1, 2, 3
ALPHA_NONE, ALPHA_TEXTURE, ALPHA_FADE = 0, 1, 2
TEXEL_ONE = 32768.0  # the atlas is fixed-point uint16: this value means 1.0, so ratios up to 2 fit


# numba's disk cache watches only the file that a function stands in: after an edit here, touch `rasterizing.py` and
# `shading.py` too.
def compiled(function: Function) -> Function:
    """numba.njit with a cache on disk, typed."""
    return cast(Function, numba.njit(cache=True, fastmath=True, error_model="numpy")(function))


@compiled
def hash_of(x: int, y: int, z: int) -> float:
    """Pseudo-random number in 0..1 of three integers."""
    h = np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263) + np.uint32(z) * np.uint32(2246822519)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = h ^ (h >> np.uint32(16))
    return float(np.float32(h & np.uint32(0xFFFFFF)) / np.float32(16777216.0))
