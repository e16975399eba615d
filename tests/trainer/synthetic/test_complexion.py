"""Skin marks, make-up, beards and the colours of hair."""

import numpy as np
import pytest

from headlift_trainer.synthetic.beards import STYLES, sample_beard
from headlift_trainer.synthetic.blemishes import Makeup, draw_complexion, draw_makeup
from headlift_trainer.synthetic.haircolor import draw_hair_color
from headlift_trainer.synthetic.identity import Person
from headlift_trainer.synthetic.shells import Body
from headlift_trainer.synthetic.strands import Strands
from headlift_trainer.synthetic.topology import FACE

TONE = np.array([0.5, 0.3, 0.2], np.float32)


def person(maleness: float = 0.9, age: float = 0.6) -> Person:
    return Person(maleness, age, {"african": 0.3, "asian": 0.3, "caucasian": 0.4})


def test_old_skin_is_more_creased_than_young_skin(assets):
    chart = assets.atlas.chart
    spread = {}
    for age in (25.0, 75.0):
        drawn = [draw_complexion(chart, np.random.default_rng(s), age, 0.5, Makeup(), TONE) for s in range(4)]
        spread[age] = np.mean([made.ratio.reshape(-1, 3)[chart.texels].std() for made in drawn])
        assert all((made.ratio > 0).all() and (made.ratio < 2).all() for made in drawn)
    assert spread[75.0] > spread[25.0]


def test_skin_off_the_chart_stays_as_it_is(assets):
    chart = assets.atlas.chart
    ratio = draw_complexion(chart, np.random.default_rng(0), 70.0, 0.2, Makeup(), TONE).ratio
    outside = np.ones(chart.side**2, bool)
    outside[chart.texels] = False
    assert (ratio.reshape(-1, 3)[outside] == 1).all()


def test_blush_reddens_and_men_and_children_wear_no_makeup(assets):
    chart = assets.atlas.chart
    plain = draw_complexion(chart, np.random.default_rng(1), 25.0, 0.2, Makeup(), TONE).ratio
    made = draw_complexion(chart, np.random.default_rng(1), 25.0, 0.2, Makeup(blush=0.8), TONE).ratio
    change = (made / plain).reshape(-1, 3).min(0)
    assert change[0] > change[1]
    for seed in range(10):
        assert draw_makeup(np.random.default_rng(seed), 0.9, 30).name == "none"
        assert draw_makeup(np.random.default_rng(seed), 0.1, 11).name == "none"
    assert any(draw_makeup(np.random.default_rng(seed), 0.1, 30).name != "none" for seed in range(10))


def test_beards_grow_on_men_only_and_are_labelled_face(assets):
    body = Body.of(assets.topology, assets.topology.mean)
    seen = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        assert sample_beard(rng, person(maleness=0.1), body).style == "none"
        beard = sample_beard(rng, person(), body)
        seen.add(beard.style)
        assert beard.style in STYLES
        assert ((beard.stubble >= 0) & (beard.stubble <= 1)).all()
        for part, strands in zip(beard.parts, beard.strands, strict=True):
            assert (part.classes == FACE).all()
            assert len(strands.lock) == len(part.vertices)
            assert part.vertices[:, 1].max() < 0.03
    assert len(seen) >= 4


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
