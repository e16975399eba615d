"""Z-order of positions: neighbours in space become neighbours in the file, which is what compressors live on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headlift.formats.cloud import Array

_BITS = 21  # an axis; 63 in all


def morton_order(means: Array) -> NDArray[np.int64]:  # [N, 3] -> [N]
    """Indices that sort positions along the Z curve of their bounding box, x fastest; ties keep their order."""
    low = means.min(0).astype(np.float64)
    size = means.max(0) - low
    cells = np.minimum((means - low) / np.where(size > 0, size, 1.0) * (1 << _BITS), (1 << _BITS) - 1)
    x, y, z = (_spread(column) for column in cells.astype(np.uint64).T)
    return np.argsort(x | y << np.uint64(1) | z << np.uint64(2), kind="stable")


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Two zero bits before every one of the 21 bits of a value."""
    for shift, mask in (
        (32, 0x001F00000000FFFF),
        (16, 0x001F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values
