"""The colours of hair."""

import numpy as np
import pytest

from headlift_trainer.synthetic.hair.color import draw_hair_color
from headlift_trainer.synthetic.hair.strands import Strands


def test_hair_greys_with_age_and_dark_skin_has_dark_hair():
    def brightness(melanin: float, years: float) -> float:
        drawn = [draw_hair_color(np.random.default_rng(seed), melanin, years) for seed in range(150)]
        return float(np.median([color.middle.mean() for color in drawn]))

    assert brightness(0.2, 75) > brightness(0.2, 25) + 0.05
    assert brightness(0.9, 25) < brightness(0.1, 25)


@pytest.mark.parametrize("seed", range(12))
def test_colours_along_strands_are_albedos_and_the_same_for_the_same_draw(seed):
    color = draw_hair_color(np.random.default_rng(seed), 0.3, 20.0 + 5 * seed)
    strands = Strands(np.linspace(0, 1, 50, dtype=np.float32), np.linspace(0, 1, 50, dtype=np.float32)[::-1])
    first, again = (color.of(strands, np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == (50, 3)
    assert ((first > 0) & (first <= 0.8)).all()
