from __future__ import annotations

import pytest

from headlift_trainer.evaluation.traits import traits_of


def test_a_makehuman_record_becomes_words() -> None:
    found = traits_of({"maleness": 0.9, "age": 0.84, "melanin": 0.5, "hair_style": "short03", "beard": "none"})
    assert found == {"sex": "male", "age": "over 50", "skin": "dark", "hair": "short", "beard": "without"}


@pytest.mark.parametrize(
    ("value", "word"), [(None, "without"), ("round", "with"), ({"style": "x"}, "with"), (False, "without")]
)
def test_what_is_worn_may_be_recorded_in_any_way(value: object, word: str) -> None:
    assert traits_of({"glasses": value}) == {"glasses": word}


def test_what_is_not_recorded_is_not_made_up() -> None:
    assert traits_of({}) == {}
    assert traits_of({"age": 30, "hair": "bald"}) == {"age": "25 to 50", "hair": "none"}
