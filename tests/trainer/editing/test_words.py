"""Words of heads: what is true of a record, nothing else, in words that the vocabulary knows."""

from __future__ import annotations

import numpy as np
import pytest

from headlift_trainer.editing.words import GROUPS, SYNONYMS, build_vocabulary, description, hair_color, values_of

OLD_WOMAN = {
    "maleness": 0.1, "age_years": 74, "hair_style": "curly", "hair_length": "long", "hair_curl": "coily",
    "hair_color_name": "greying brown", "glasses": "tinted round", "beard": "none", "hat": "none", "makeup": "lipstick",
    "skin_albedo": [0.08, 0.05, 0.04], "cloth_color": "red",
}  # fmt: skip


def test_a_record_is_read_as_what_it_says() -> None:
    assert values_of(OLD_WOMAN) == {
        "sex": "woman", "age": "old", "hair length": "long", "hair color": "grey", "curl": "curly", "beard": "none",
        "hat": "none", "glasses": "sunglasses", "skin": "dark", "make-up": "make-up", "clothes": "red",
    }  # fmt: skip


def test_what_cannot_be_seen_is_not_said() -> None:
    covered = values_of(OLD_WOMAN | {"hat": "headscarf"})
    assert covered["hat"] == "hat"
    assert not {"hair length", "hair color", "curl"} & covered.keys()
    bald = values_of(OLD_WOMAN | {"hair_length": "shaved"})
    assert bald["hair length"] == "bald"
    assert "hair color" not in bald
    assert values_of({"maleness": 0.5}) == {"hat": "none"}


@pytest.mark.parametrize(
    ("name", "albedo", "wanted"),
    [("auburn", None, "red"), ("platinum", None, "blond"), ("dyed", [0.02, 0.02, 0.5], "blue"), ("rainbow", None, "")],
)
def test_hair_colours_have_basic_names(name: str, albedo: list[float] | None, wanted: str) -> None:
    assert hair_color({"hair_color_name": name, "hair_albedo": albedo}) == wanted


def test_every_value_is_one_of_its_group() -> None:
    for group, value in values_of(OLD_WOMAN).items():
        assert value in GROUPS[group]


def test_descriptions_vary_and_never_say_what_is_false() -> None:
    texts = {description(OLD_WOMAN, np.random.default_rng(seed)) for seed in range(80)}
    assert len(texts) > 40
    for text in texts:
        words = text.replace(",", " ").split()
        assert "man" not in words
        assert not {"blond", "beanie", "pale"} & set(words)


def test_the_vocabulary_knows_every_phrase_and_every_synonym() -> None:
    vocabulary = build_vocabulary([OLD_WOMAN])
    for group, ways in GROUPS.items():
        for value, phrases in ways.items():
            for phrase in phrases:
                assert vocabulary.read(phrase)[1] == [], phrase
                row = vocabulary.named(phrase)[group]
                assert vocabulary.traits[row][:2] == (group, value), phrase
    for word in SYNONYMS:
        assert vocabulary.read(word)[1] == [], word
    assert vocabulary.read("a sparkling unicorn")[1] == ["sparkling", "unicorn"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("make her hair red and her shirt blue", {}),
        ("red hair, a blue shirt", {"hair color": "red", "clothes": "blue"}),
        ("an elderly gentleman with a beard", {"sex": "man", "age": "old", "beard": "beard"}),
        ("give him blonde curls and no glasses", {"curl": "curly", "glasses": "none"}),
        ("a redhead", {"hair color": "red"}),
    ],
)
def test_prompts_name_traits(text: str, wanted: dict[str, str]) -> None:
    vocabulary = build_vocabulary([OLD_WOMAN])
    assert {g: vocabulary.traits[row][1] for g, row in vocabulary.named(text).items()} == wanted
