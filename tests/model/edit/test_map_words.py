"""Words that are shapes: hair that grows and is cut, hats and glasses that go on and off, and all else that stays."""

import numpy as np
import pytest
import torch

from headlift.model.edit.map_words import REACH, SIDE, YAW_MAX, MapWords, eyes_of, signed_distance

BACKGROUND, NECK, FACE, CLOTH, HAIR, GLASSES, HAT = 0, 1, 2, 3, 14, 15, 16


def disc(x, y, radius, side=SIDE):
    rows, columns = np.mgrid[:side, :side] / side
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def portrait(side=128, hair=0.24):
    """A round face with round hair behind it; the hair's radius says its length."""
    labels = np.zeros((side, side), np.uint8)
    labels[int(0.8 * side) :] = CLOTH
    labels[disc(0.5, 0.45, hair, side)] = HAIR
    labels[disc(0.5, 0.5, 0.18, side)] = FACE
    labels[disc(0.44, 0.45, 0.02, side)] = 8
    labels[disc(0.56, 0.45, 0.02, side)] = 9
    return labels


@pytest.fixture
def words():
    found = MapWords()
    radii = {1: 0.24, 2: 0.3, 3: 0.38}
    for i, radius in radii.items():
        found.hair[:, i] = torch.from_numpy(signed_distance(portrait(SIDE, radius) == HAIR))
        for curl, more in enumerate((0.0, 0.06)):
            found.curls[:, curl, i - 1] = torch.from_numpy(signed_distance(portrait(SIDE, radius + more) == HAIR))
    bare = portrait(SIDE, 0.19)
    found.head[:] = torch.from_numpy(signed_distance(bare > 0))
    found.eyes[:] = torch.tensor([[0.44, 0.45], [0.56, 0.45]])
    found.worn_eyes[:] = found.eyes[0]
    cap = disc(0.5, 0.35, 0.2) & (np.mgrid[:SIDE, :SIDE][0] < 0.36 * SIDE)
    frames = disc(0.44, 0.45, 0.05) | disc(0.56, 0.45, 0.05)
    for i, shape in enumerate((cap, frames, frames)):
        found.worn[:, i] = torch.from_numpy(signed_distance(shape))
    return found


@pytest.mark.parametrize("side", [64, 128, 256])
def test_hair_becomes_as_long_as_is_said(words, side):
    shares = {
        length: (words.paint(portrait(side), {"hair length": length}, 0.0) == HAIR).mean()
        for length in ("bald", "short", "medium", "long")
    }
    assert shares["bald"] == 0
    assert shares["bald"] < shares["short"] < shares["medium"] < shares["long"]
    wanted = portrait(side, 0.38) == HAIR
    grown = words.paint(portrait(side), {"hair length": "long"}, 0.0) == HAIR
    assert (grown & wanted).sum() > 0.9 * (grown | wanted).sum()


def test_curls_stand_out_and_straight_hair_lies_closer(words):
    labels = portrait()
    curly = words.paint(labels, {"curl": "curly"}, 0.0)
    wanted = portrait(hair=0.3) == HAIR
    assert ((curly == HAIR) & wanted).sum() > 0.93 * ((curly == HAIR) | wanted).sum()
    assert (curly[labels != BACKGROUND] == labels[labels != BACKGROUND]).all()
    straight = words.paint(portrait(hair=0.28), {"curl": "straight"}, 0.0)
    assert (labels == HAIR).sum() * 0.85 < (straight == HAIR).sum() < (portrait(hair=0.28) == HAIR).sum()
    half = words.paint(labels, {"curl": "curly"}, 0.0, strength=0.5)
    assert (labels == HAIR).sum() < (half == HAIR).sum() < (curly == HAIR).sum()


def test_curls_need_hair_and_outlines_of_both_kinds(words):
    bald = portrait(hair=0.1)
    assert words.paint(bald, {"curl": "curly"}, 0.0) is bald
    labels = portrait()
    assert words.paint(labels, {"curl": "wavy"}, 0.0) is labels
    words.curls[:, 1] = -REACH
    assert words.paint(labels, {"curl": "curly"}, 0.0) is labels


def test_under_hair_that_is_gone_lies_what_lay_beside_it(words):
    bald = words.paint(portrait(hair=0.38), {"hair length": "bald"}, 0.0)
    assert bald[2, 64] == BACKGROUND  # the hair stood out there
    assert set(np.unique(bald)) == {BACKGROUND, FACE, CLOTH, 8, 9}


def test_eyes_nose_and_mouth_are_never_covered_by_hair(words):
    words.hair[:, 3] = REACH  # hair everywhere
    grown = words.paint(portrait(), {"hair length": "long"}, 0.0)
    assert ((grown == 8) == (portrait() == 8)).all()
    assert ((grown == 9) == (portrait() == 9)).all()


def test_the_length_that_is_there_changes_nothing(words):
    labels = portrait()
    assert words.paint(labels, {"hair length": "short"}, 0.0) is labels
    assert words.paint(labels, {"hair color": "red"}, 0.0) is labels
    assert words.paint(labels, {"hair length": "long"}, YAW_MAX + 1) is labels
    nobody = np.zeros_like(labels)
    assert words.paint(nobody, {"hat": "hat"}, 0.0) is nobody


def test_strength_goes_part_of_the_way(words):
    half = words.paint(portrait(), {"hair length": "long", "hat": "hat"}, 0.0, 0.4)
    whole = words.paint(portrait(), {"hair length": "long"}, 0.0)
    assert (portrait() == HAIR).sum() < (half == HAIR).sum() < (whole == HAIR).sum()
    assert not (half == HAT).any()  # things are not put on by halves


def test_a_hat_goes_on_once_and_off_again(words):
    labels = portrait()
    hatted = words.paint(labels, {"hat": "hat"}, 0.0)
    assert (hatted == HAT).sum() > 300
    assert words.paint(hatted, {"hat": "hat"}, 0.0) is hatted
    top = int(np.nonzero((hatted == HAT).any(1))[0][0])
    assert not (hatted[:top, 64] == HAIR).any()  # no hair rises out of it
    bare = words.paint(hatted, {"hat": "none"}, 0.0)
    assert not (bare == HAT).any()
    assert ((bare > 0) == (labels > 0)).mean() > 0.97


def test_glasses_are_fitted_between_the_eyes(words):
    labels = portrait()
    lower = np.roll(labels, 12, 0)
    for one in (labels, lower):
        there = words.paint(one, {"glasses": "glasses"}, 0.0) == GLASSES
        assert there.sum() > 100
        assert np.nonzero(there)[0].mean() / SIDE == pytest.approx(eyes_of(one)[:, 1].mean(), abs=0.01)
    off = words.paint(words.paint(labels, {"glasses": "glasses"}, 0.0), {"glasses": "none"}, 0.0)
    assert not (off == GLASSES).any()
    assert (off[labels == FACE] != BACKGROUND).all()


def test_the_other_side_is_the_mirror_image(words):
    words.hair[1] = words.hair[1].roll(9, -1)  # as seen from the left everything lies further right
    labels = portrait()
    left = words.paint(labels, {"hair length": "long"}, 40.0)
    mirrored = labels[:, ::-1].copy()
    mirrored[labels[:, ::-1] == 8], mirrored[labels[:, ::-1] == 9] = 9, 8
    right = words.paint(mirrored, {"hair length": "long"}, -40.0)
    assert ((left == HAIR)[:, ::-1] == (right == HAIR)).all()


def test_distances_are_signed_and_bounded():
    mask = disc(0.5, 0.5, 0.25)
    field = signed_distance(mask)
    assert ((field > 0) == mask).all()
    assert field[64, 64] == pytest.approx(0.25, abs=0.02)
    assert field[0, 0] == -REACH
    assert (signed_distance(np.zeros((8, 8), bool)) == -REACH).all()
    assert (signed_distance(np.ones((8, 8), bool)) == REACH).all()
