"""The canonical frame and the regions of the base mesh."""

import numpy as np
import pytest

from headlift_trainer.synthetic.base import topology as T
from headlift_trainer.synthetic.base.identity import neutral_shape, sample_person
from headlift_trainer.synthetic.classes import EAR_L, EAR_R, FACE, NECK, NOSE


def test_the_mean_head_stands_in_the_canonical_frame(assets):
    topology = assets.topology
    _, left, right = topology.eyeballs(topology._mean_head())
    left, right = topology.frame_of_mean.apply(left), topology.frame_of_mean.apply(right)
    assert np.allclose((left + right) / 2, T.EYE_MIDPOINT, atol=1e-6)
    assert np.linalg.norm(left - right) == pytest.approx(T.EYE_DISTANCE, rel=1e-5)
    assert left[0] > 0 > right[0]


@pytest.mark.parametrize("seed", range(5))
def test_every_neutral_head_has_its_eyes_in_the_same_place_and_about_one_size(assets, seed):
    topology, rng = assets.topology, np.random.default_rng(seed)
    shape = neutral_shape(sample_person(rng, assets.makehuman), assets.makehuman, rng)
    frame = topology.frame(shape)
    _, left, right = topology.eyeballs(shape)
    assert np.allclose((frame.apply(left) + frame.apply(right)) / 2, T.EYE_MIDPOINT, atol=1e-6)
    assert np.linalg.norm(frame.apply(left) - frame.apply(right)) == pytest.approx(T.EYE_DISTANCE, rel=0.15)


def test_regions_lie_where_they_belong(assets):
    topology = assets.topology
    x, y, z = topology.mean.T
    assert (np.abs(x[topology.ear]) > 0.05).all()
    assert (z[topology.nose] > 0).all()
    assert y[topology.upper_lip].mean() > y[topology.lower_lip].mean()
    assert (topology.hairline[y > 0.12] > 0).all()
    assert (topology.hairline[y < -0.1] < 0).all()
    assert (topology.hairline[(y < 0.09) & (z > 0.05)] < 0).all()
    assert set(np.unique(topology.classes)) <= set(range(15))
    assert {FACE, NECK, NOSE, EAR_L, EAR_R} <= set(np.unique(topology.classes))
    assert (x[topology.classes == EAR_L] > 0).all()
