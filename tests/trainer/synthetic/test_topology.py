"""The canonical frame and the regions of the base mesh."""

import numpy as np
import pytest

from headlift_trainer.synthetic import topology as T
from headlift_trainer.synthetic.identity import neutral_shape, sample_person


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
    assert {T.FACE, T.NECK, T.NOSE, T.EAR_L, T.EAR_R} <= set(np.unique(topology.classes))
    assert (x[topology.classes == T.EAR_L] > 0).all()


def test_smoothstep_rises_falls_and_clips():
    x = np.linspace(-1, 2, 50, dtype=np.float32)
    rising, falling = T.smoothstep(0, 1, x), T.smoothstep(1, 0, x)
    assert (np.diff(rising) >= 0).all()
    assert np.allclose(rising + falling, 1, atol=1e-6)
    assert rising[0] == 0
    assert rising[-1] == 1


def test_smooth_noise_is_centred_and_smooth():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (20_000, 3)).astype(np.float32)
    noise = T.smooth_noise(points, 20.0, np.random.default_rng(1))
    near = T.smooth_noise(points + np.float32(1e-3), 20.0, np.random.default_rng(1))
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.15)
    assert np.abs(noise - near).max() < 0.3
