"""The colour of skin from melanin and blood."""

from __future__ import annotations

import numpy as np

from headlift_trainer.synthetic.arrays import Floats

# albedo of skin at melanin 0, 1/3, 2/3, 1
_TONES = np.array([[0.72, 0.46, 0.365], [0.52, 0.305, 0.21], [0.27, 0.135, 0.080], [0.100, 0.047, 0.028]])
BLOOD_DENSITY = np.array([0.22, 1.0, 0.80])  # optical density per unit of haemoglobin


def skin_tone(melanin: float, blood: float) -> Floats:
    """Albedo [3] of skin: melanin 0..1, blood about -0.3..0.3 around the mean."""
    keys = np.linspace(0, 1, len(_TONES))
    density = [np.interp(melanin, keys, np.log(_TONES[:, channel])) for channel in range(3)]
    return np.asarray(np.exp(np.array(density) - blood * BLOOD_DENSITY * 0.5), np.float32)
