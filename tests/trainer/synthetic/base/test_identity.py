"""Who is drawn: bounds, symmetry and determinism."""

import re

import numpy as np
import pytest

from headlift_trainer.synthetic.base.identity import (
    DETAIL_LIMIT,
    add_expression,
    age_shares,
    neutral_shape,
    sample_details,
    sample_expression,
    sample_person,
)


@pytest.mark.parametrize("age", np.linspace(0, 1, 11))
def test_age_shares_sum_to_one(age):
    shares = age_shares(float(age))
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())


def test_details_are_small_symmetric_and_never_undo_each_other(assets):
    for seed in range(30):
        weights = sample_details(np.random.default_rng(seed), assets.makehuman)
        assert all(0 <= weight <= DETAIL_LIMIT for weight in weights.values())
        for name, weight in weights.items():
            if "/l-" in name:
                other = weights[name.replace("/l-", "/r-")]
                assert other == pytest.approx(weight, rel=1.0)
            opposite = re.sub("incr$", "decr", name) if name.endswith("incr") else re.sub("up$", "down", name)
            assert opposite == name or opposite not in weights


def test_expressions_are_symmetric_and_mild():
    names = set()
    for seed in range(200):
        name, units = sample_expression(np.random.default_rng(seed))
        names.add(name)
        for unit, weight in units.items():
            assert 0 <= weight <= 1.5
            if "left" in unit:
                assert units[unit.replace("left", "right")] == pytest.approx(weight, rel=0.4, abs=1e-6)
    assert {"neutral", "smile", "toothy smile"} <= names


def test_people_are_drawn_over_the_whole_range_and_repeatably(assets):
    people = [sample_person(np.random.default_rng(seed), assets.makehuman) for seed in range(200)]
    assert people[7] == sample_person(np.random.default_rng(7), assets.makehuman)
    assert all(sum(person.descent.values()) == pytest.approx(1) for person in people)
    assert 0.35 < np.mean([person.is_male for person in people]) < 0.65
    assert min(person.age for person in people) < 0.5 < 0.8 < max(person.age for person in people)


def test_an_expression_moves_only_what_its_units_move(assets):
    person = sample_person(np.random.default_rng(1), assets.makehuman)
    shape = neutral_shape(person, assets.makehuman, np.random.default_rng(2))
    changed = shape.copy()
    add_expression(changed, person, assets.makehuman)
    units = [f"expression/units/{race}/{unit}" for race in person.descent for unit in person.expression]
    moved = assets.makehuman.support(units) > 0
    assert np.array_equal(shape[~moved], changed[~moved])
