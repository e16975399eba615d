"""A cutout serves crops near the first one, and the picture's border is not mistaken for background."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from headlift.stages.preprocess.geometry.resample import compose, similarity
from headlift.stages.preprocess.matte.cutout import Cutout
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter

SIZE = 256


@pytest.fixture(scope="module")
def person() -> np.ndarray:
    """Head and shoulders as they fill a crop, before a grey wall."""
    image = Image.new("RGB", (SIZE, SIZE), (190, 192, 196))
    draw = ImageDraw.Draw(image)
    draw.rectangle((104, 150, 152, 220), fill=(190, 140, 115))
    draw.ellipse((30, 196, 226, 400), fill=(30, 60, 150))
    draw.ellipse((70, 40, 186, 170), fill=(60, 35, 20))
    draw.ellipse((88, 70, 168, 180), fill=(205, 155, 130))
    noise = np.random.default_rng(1).normal(0, 2, (SIZE, SIZE, 3))
    return (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)


def test_hair_that_touches_the_border_stays(person):
    tight = np.ascontiguousarray(person[60:])  # cuts through the hair
    onto_crop = similarity((0, 0), (0, 60))
    _, alpha = Cutout.of(tight, None, onto_crop, SIZE, GrabCutMatter()).at(onto_crop)
    assert float(alpha[0, 62:70, 100:156].min()) > 0.9
    assert float(alpha[0, :58].max()) == 0.0  # beyond the picture there is nothing
    assert float(alpha[0, 62:150, :40].max()) < 0.05


def test_a_nearby_crop_of_a_cutout_is_the_moved_picture(person):
    still = np.eye(2, 3)
    cutout = Cutout.of(person, None, still, SIZE, GrabCutMatter())
    image, alpha = cutout.at(still)
    moved_image, moved_alpha = cutout.at(compose(similarity((0, 0), (16, -9)), still))
    assert np.allclose(moved_alpha[:, :200, 30:], alpha[:, 9:209, 14:-16], atol=1e-6)
    assert float((moved_image[:, :200, 30:] - image[:, 9:209, 14:-16]).abs().mean()) < 2e-3
    assert not cutout.alpha_was_no_matte


def test_own_alpha_needs_no_matter(person):
    class Unused:
        def matte(self, rgb, face_box):
            raise AssertionError("a picture with a matte is not matted again")

    own = np.zeros((SIZE, SIZE), np.uint8)
    own[40:, 70:187] = 255
    image, alpha = Cutout.of(person, own, np.eye(2, 3), SIZE, Unused()).at(np.eye(2, 3))
    assert np.array_equal(alpha[0].numpy() * 255, own)
    assert float(image[:, own == 0].max()) == 0.0
