"""Captions say what the record says, leave out what it does not, and vary."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from headlift_trainer.synthetic.captions import caption, color_word

OLD_WOMAN = {
    "maleness": 0.1, "age_years": 74.0, "hair_style": "curly", "hair_length": "short", "hair_curl": "curly",
    "hair_color_name": "grey", "glasses": "round", "beard": "none", "hat": "none",
}  # fmt: skip


def captions(attributes: dict[str, object], count: int = 200) -> list[str]:
    return [caption(attributes, np.random.default_rng(seed)) for seed in range(count)]


def test_an_old_woman_is_one_in_every_wording() -> None:
    for words in captions(OLD_WOMAN):
        assert "woman" in words
        assert "old" in words or "elderly" in words
        assert "short" in words
        assert "curly" in words
        assert "grey hair" in words
        assert "round glasses" in words
        assert "beard" not in words
        assert " man" not in words


def test_the_same_record_and_generator_give_the_same_words_and_others_vary() -> None:
    assert captions(OLD_WOMAN) == captions(OLD_WOMAN)
    assert len(set(captions(OLD_WOMAN))) > 10


def test_what_is_not_known_is_left_out() -> None:
    assert set(captions({})) <= {"a person", "a portrait of a person", "a photo of a person", "a close-up of a person"}
    assert not any("hair" in words for words in captions({"maleness": 0.9, "hair_style": "no such style at all"}))


@pytest.mark.parametrize(("years", "told"), [(8, {"boy"}), (25, {"man"}), (50, {"man"}), (80, {"man"})])
def test_age_and_sex_choose_the_noun(years: int, told: set[str]) -> None:
    for words in captions({"maleness": 0.95, "age_years": float(years)}):
        assert any(noun in words for noun in told)
        assert "woman" not in words


def test_spacing_and_articles_are_english() -> None:
    records: list[dict[str, object]] = [
        OLD_WOMAN,
        OLD_WOMAN | {"hat": "orange beanie", "expression": "smile", "neckline": "vee", "cloth_color": "olive"},
        {"maleness": 0.9, "age_years": 35.0, "beard": "full", "beard_length": "long", "makeup": "lipstick"},
    ]
    for record in records:
        for words in captions(record):
            assert "  " not in words
            assert " ," not in words
            assert not words.endswith((" ", ",", "with", "and"))
            assert words == words.strip()
            nouns = words.split()
            for article, noun in pairwise(nouns):
                if article in ("a", "an"):
                    assert (article == "an") == (noun[0] in "aeio"), words


@pytest.mark.parametrize(
    ("albedo", "word"),
    [
        ((0.01, 0.01, 0.01), "black"),
        ((0.2, 0.2, 0.2), "grey"),
        ((0.7, 0.7, 0.7), "white"),
        ((0.05, 0.6, 0.05), "green"),
        ((0.4, 0.08, 0.02), "red"),
    ],
)
def test_hair_colours_have_everyday_names(albedo: tuple[float, float, float], word: str) -> None:
    assert color_word(albedo) == word


def test_darker_brown_never_has_a_lighter_name() -> None:
    order = ["black", "dark brown", "brown", "light brown", "blond"]
    ranks = [order.index(color_word((0.9 * b, 0.62 * b, 0.42 * b))) for b in np.linspace(0.01, 1.0, 60)]
    assert ranks == sorted(ranks)
    assert set(ranks) == set(range(5))
