"""Regions by geometry: symmetric, and each named place is where it should be."""

import numpy as np
import pytest

from headlift.model.template import Region
from headlift_trainer.template import anatomy

PLACES = {
    "forehead": ((0.0, 0.075, 0.065), Region.FACE),
    "cheek": ((0.045, -0.010, 0.045), Region.FACE),
    "nose": ((0.0, -0.015, 0.090), Region.FACE),
    "chin": ((0.0, -0.080, 0.060), Region.FACE),
    "left eye": ((0.0315, 0.028, 0.054), Region.EYE),
    "right eye": ((-0.0315, 0.028, 0.054), Region.EYE),
    "lower lip": ((0.0, -0.050, 0.071), Region.MOUTH),
    "left ear": ((0.080, 0.015, -0.018), Region.EAR),
    "crown": ((0.0, 0.135, -0.015), Region.SCALP),
    "back of the head": ((0.0, 0.030, -0.100), Region.SCALP),
    "throat": ((0.0, -0.110, 0.015), Region.NECK),
    "nape": ((0.0, -0.090, -0.090), Region.NECK),
    "shoulder": ((0.150, -0.170, -0.040), Region.SHOULDERS),
    "chest": ((0.0, -0.190, 0.020), Region.SHOULDERS),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_place_belongs_to_its_region(place: str) -> None:
    point, region = PLACES[place]
    assert anatomy.regions_of(np.array([point]))[0] == region


def test_left_and_right_are_told_alike() -> None:
    points = np.random.default_rng(1).uniform([-0.2, -0.2, -0.12], [0.2, 0.14, 0.1], (5000, 3))
    flipped = points * [-1.0, 1.0, 1.0]
    assert np.array_equal(anatomy.regions_of(points), anatomy.regions_of(flipped))
    np.testing.assert_allclose(anatomy.density_at(points), anatomy.density_at(flipped))


def test_face_and_ears_are_denser_than_the_scalp_and_the_scalp_than_the_shoulders() -> None:
    density = {place: anatomy.density_at(np.array([point]))[0] for place, (point, _) in PLACES.items()}
    assert density["left eye"] > density["forehead"] > density["left ear"] > density["crown"] > density["shoulder"] > 0
    assert density["lower lip"] > density["forehead"]
    assert density["nose"] > density["forehead"]


def test_hair_grows_on_the_crown_and_not_on_the_face() -> None:
    crown, brow, nape = np.array([[0.0, 0.13, 0.0], [0.02, 0.05, 0.06], [0.0, -0.04, -0.08]])
    height = anatomy.above_hairline(np.stack([crown, brow, nape]))
    assert height[0] > 0.02
    assert height[1] < 0.0
    assert height[2] > 0.0
