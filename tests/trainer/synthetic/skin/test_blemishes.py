"""Creases, spots and make-up."""

import numpy as np

from headlift_trainer.synthetic.skin.blemishes import Makeup, draw_complexion, draw_makeup

TONE = np.array([0.5, 0.3, 0.2], np.float32)


def test_old_skin_is_more_creased_than_young_skin(assets):
    chart = assets.chart
    spread = {}
    for age in (25.0, 75.0):
        drawn = [draw_complexion(chart, np.random.default_rng(s), age, 0.5, Makeup(), TONE) for s in range(4)]
        spread[age] = np.mean([made.ratio.reshape(-1, 3)[chart.texels].std() for made in drawn])
        assert all((made.ratio > 0).all() and (made.ratio < 2).all() for made in drawn)
    assert spread[75.0] > spread[25.0]


def test_skin_off_the_chart_stays_as_it_is(assets):
    chart = assets.chart
    ratio = draw_complexion(chart, np.random.default_rng(0), 70.0, 0.2, Makeup(), TONE).ratio
    outside = np.ones(chart.side**2, bool)
    outside[chart.texels] = False
    assert (ratio.reshape(-1, 3)[outside] == 1).all()


def test_blush_reddens_and_men_and_children_wear_no_makeup(assets):
    chart = assets.chart
    plain = draw_complexion(chart, np.random.default_rng(1), 25.0, 0.2, Makeup(), TONE).ratio
    made = draw_complexion(chart, np.random.default_rng(1), 25.0, 0.2, Makeup(blush=0.8), TONE).ratio
    change = (made / plain).reshape(-1, 3).min(0)
    assert change[0] > change[1]
    for seed in range(10):
        assert draw_makeup(np.random.default_rng(seed), 0.9, 30).name == "none"
        assert draw_makeup(np.random.default_rng(seed), 0.1, 11).name == "none"
    assert any(draw_makeup(np.random.default_rng(seed), 0.1, 30).name != "none" for seed in range(10))
