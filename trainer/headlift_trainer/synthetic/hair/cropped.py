"""Hair that stands off the scalp as a shell: a crew cut, curls, an afro."""

from __future__ import annotations

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.shells import Body, Shell, shell_part
from headlift_trainer.synthetic.classes import HAIR
from headlift_trainer.synthetic.noise import smoothstep
from headlift_trainer.synthetic.render.compiled import KIND_HAIR, KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part


def cropped_hair_part(body: Body, length: float, curl: float, hairline: Floats, rng: np.random.Generator) -> Part:
    """Hair that stands off the scalp: a crew cut at a few millimetres, an afro at several centimetres."""
    shell = Shell(
        "hair",
        HAIR,
        KIND_HAIR if curl < 0.3 else KIND_PLAIN,
        fade_width=0.014,
        refinements=2 if length > 0.008 else 1,
        lump_size=0.08 + 0.22 * curl,
        lump_frequency=110.0 + 60.0 * rng.random(),
        ragged=0.004,
        grain=0.35 + 0.5 * curl,
    )
    height = length * smoothstep(-0.002, min(0.05, 0.012 + length), hairline)
    return shell_part(body, shell, hairline, np.asarray(height, np.float32), rng)
