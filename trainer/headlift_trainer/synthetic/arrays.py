"""Types of the arrays that pass between the parts of the generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.floating]  # what may be worked out in either precision
Classes = NDArray[np.uint8]
Texels = NDArray[np.uint16]
