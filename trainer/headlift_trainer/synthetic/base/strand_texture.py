"""Textures of parallel hairs, drawn by code, for the cards that hair is made of."""

from __future__ import annotations

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.noise import smoothstep

COLUMNS = 4  # cards side by side in a texture of strands
STRAND_TEXTURES = ("strands/fine", "strands/coarse", "strands/wisps", "strands/wiry")


def strand_texture(kind: str, side: int = 256) -> Floats:
    """COLUMNS cards of parallel hairs, roots at the top: a ratio to the hair's colour, and alpha, [side, side, 4]."""
    index = STRAND_TEXTURES.index(kind)
    rng = np.random.default_rng(index)
    width = side // COLUMNS
    fibres = (26, 16, 22, 12)[index]
    sparse = (0.10, 0.14, 0.45, 0.30)[index]
    wander = (0.6, 1.2, 2.0, 3.0)[index]
    picture = np.ones((side, side, 4), np.float32)
    place = np.linspace(0, 1, side)[:, None]  # root to tip
    for column in range(COLUMNS):
        shade, alpha = np.ones((side, width)), np.zeros((side, width))
        x = np.arange(width)[None] + 0.5
        for _ in range(3 * fibres):
            middle = rng.uniform(0.0, width)
            drift = wander * np.sin(place * rng.uniform(2, 7) + rng.uniform(0, 6.3))
            drift = drift + (width / 2 - middle) * rng.uniform(0.0, 0.35) * place**2
            thick = rng.uniform(0.8, 2.2) * (1 - 0.3 * place)
            inside = np.exp(-(((x - middle - drift) / thick) ** 2))
            tone = np.exp(rng.normal(0, 0.28))
            shade = shade + inside * (tone - shade) * 0.8
            edge = abs(middle / width - 0.5) * 2
            ends = 1 - rng.uniform(0, 0.12 + 0.35 * edge) - (sparse * rng.random() if edge > 0.4 else 0.0)
            begins = rng.uniform(0, 0.10) * (edge > 0.5)
            kept = rng.random() > sparse * edge
            alpha = np.maximum(alpha, inside * (place < ends) * (place >= begins) * kept)
        columns = slice(column * width, (column + 1) * width)
        picture[:, columns, :3] = np.clip(shade, 0.35, 1.8)[..., None]
        picture[:, columns, 3] = np.clip(alpha * 2.2 - 0.5, 0, 1)
    picture[:, :, 3] *= smoothstep(1.0, 0.985, place.astype(np.float32))
    return picture
