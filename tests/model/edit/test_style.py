"""The small CLIP: it reads words it knows, says which it does not, and words change only what they name."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.edit.style import StyleConfig, StyleModel, Vocabulary, feature_width, picture_features
from headlift.model.mini.config import HeadNetConfig
from headlift.model.mini.headnet import HeadNet

WORDS = Vocabulary(
    ("a", "beard", "black", "blue", "dark", "hair", "long", "man", "no", "person", "red", "shirt", "short", "skin",
     "t-shirt"),
    (("crimson", "red"), ("redhead", "red hair")),
    ("make", "him", "and", "with"),
    (
        ("hair color", "red", ("red hair", "a person with red hair")), ("hair color", "black", ("black hair",)),
        ("length", "long", ("long hair",)), ("length", "short", ("short hair",)),
        ("beard", "none", ("no beard",)), ("beard", "beard", ("a beard",)),
        ("clothes", "red", ("a red shirt",)), ("clothes", "blue", ("a blue shirt",)),
    ),
)  # fmt: skip
CONFIG = StyleConfig(dim=16, hidden=24, word_dim=16, depth=1, num_heads=2)


@pytest.fixture
def style() -> StyleModel:
    torch.manual_seed(0)
    model = StyleModel(CONFIG, WORDS, 10).eval()
    model.look.copy_(0.3 * torch.nn.functional.normalize(torch.randn(16), dim=-1))
    # Traits that do not depend on each other: one direction a group.
    for i, (group, value, _) in enumerate(WORDS.traits):
        axis = ["hair color", "length", "beard", "clothes"].index(group)
        model.traits[i, axis] = 0.4 if value in ("red", "long", "beard") else -0.4
    return model


def test_unknown_words_are_reported_and_silent_ones_are_passed_over() -> None:
    known, unknown = WORDS.read("Make him a crimson beard, with sparkles and a T-shirt")
    assert unknown == ["sparkles"]
    assert [WORDS.words[i - 1] for i in known] == ["a", "red", "beard", "a", "t-shirt"]


def test_hyphenated_words_fall_apart_only_where_the_whole_is_unknown() -> None:
    assert WORDS.read("t-shirt")[0] != WORDS.read("t shirt")[0]
    assert [WORDS.words[i - 1] for i in WORDS.read("red-hair")[0]] == ["red", "hair"]
    assert [WORDS.words[i - 1] for i in WORDS.read("redhead")[0]] == ["red", "hair"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("red hair", {"hair color": "red"}),
        ("long red hair", {"length": "long", "hair color": "red"}),
        ("red hair and a blue shirt", {"hair color": "red", "clothes": "blue"}),
        ("a blue shirt with red hair", {"hair color": "red", "clothes": "blue"}),
        ("no beard", {"beard": "none"}),
        ("a beard", {"beard": "beard"}),
        ("dark skin", {}),
    ],
)
def test_traits_are_named_by_their_own_noun(text: str, wanted: dict[str, str]) -> None:
    assert {group: WORDS.traits[row][1] for group, row in WORDS.named(text).items()} == wanted


def test_a_text_of_unknown_words_alone_is_refused(style: StyleModel) -> None:
    with pytest.raises(InvalidInputError, match="sparkles") as caught:
        style.embed_texts(["sparkles"])
    assert caught.value.reason == "UNKNOWN_WORDS"


def test_embeddings_are_unit_vectors_and_padding_changes_nothing(style: StyleModel) -> None:
    with torch.no_grad():
        both = style.embed_texts(["red hair", "a man with long red hair and a blue shirt"])
        assert torch.allclose(both.norm(dim=-1), torch.ones(2), atol=1e-5)
        assert torch.allclose(both[:1], style.embed_texts(["red hair"]), atol=1e-5)
        assert torch.allclose(style.embed_features(torch.randn(3, 10)).norm(dim=-1), torch.ones(3), atol=1e-5)


def test_a_change_moves_what_it_names_and_keeps_the_rest(style: StyleModel) -> None:
    about = torch.nn.functional.normalize(style.look + style.traits[1] + style.traits[3], dim=-1)  # black, short
    changed = style.embed_change("red hair", about)
    assert changed.norm() == pytest.approx(1, abs=1e-5)
    scores = style.traits @ (changed - style.look)
    assert scores[0] > scores[1]  # red now
    ratio = changed[1:] / about[1:]  # all else only shrank together, as it lies on a sphere
    assert torch.allclose(ratio, ratio.mean().expand_as(ratio), atol=1e-4)


def test_what_is_so_already_is_not_overdone(style: StyleModel) -> None:
    once = style.embed_change("red hair", torch.nn.functional.normalize(style.look + style.traits[1], dim=-1))
    assert torch.allclose(style.embed_change("red hair", once), once, atol=0.05)


def test_a_text_that_names_no_trait_stands_for_itself(style: StyleModel) -> None:
    about = torch.nn.functional.normalize(torch.ones(16), dim=-1)
    assert torch.equal(style.embed_change("dark skin", about), style.embed_texts(["dark skin"])[0])


def test_a_vocabulary_survives_being_written_down() -> None:
    assert Vocabulary(**asdict(WORDS)) == WORDS


def test_picture_features_have_the_width_they_say_and_see_colours() -> None:
    torch.manual_seed(0)
    config = HeadNetConfig(32, 2, 2, 2.0, 12, 8, (8, 8, 16), 8)
    net = HeadNet(config).eval()
    alpha = torch.ones(2, 1, 64, 64)
    rgb = torch.stack([torch.full((3, 64, 64), 0.2), torch.full((3, 64, 64), 0.8)])
    found = picture_features(net, torch.cat([rgb, alpha], 1))
    assert found.shape == (2, feature_width(config))
    assert torch.isfinite(found).all()
    colors = found[:, : 19 * 3]
    assert colors[1].sum() > colors[0].sum()


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="num_heads"):
        StyleConfig(word_dim=10, num_heads=4)
