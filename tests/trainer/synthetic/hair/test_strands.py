"""Strands: guides, cards, tubes, textures, and every cut that is made of them."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.base.obstacle import Obstacle
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.base.strand_texture import STRAND_TEXTURES, strand_texture
from headlift_trainer.synthetic.classes import HAIR
from headlift_trainer.synthetic.hair.strands import Growth, cards, grow, roots_on, tubes
from headlift_trainer.synthetic.hair.styles import OWN_STYLES, grow_style
from headlift_trainer.synthetic.noise import smoothstep


@pytest.fixture(scope="module")
def body(assets):
    return Body.of(assets.topology, assets.topology.mean)


@pytest.fixture(scope="module")
def guides(body):
    rng = np.random.default_rng(0)
    roots, normals = roots_on(body, smoothstep(0.0, 0.01, body.topology.hairline), 200, rng)
    return grow(roots, normals, np.tile([0.0, 0.0, -1.0], (200, 1)), Growth(0.2, steps=16), Obstacle(body), rng)


def test_roots_lie_where_hair_grows_and_are_as_many_as_asked_for(body):
    rng = np.random.default_rng(0)
    roots, normals = roots_on(body, (body.topology.hairline > 0).astype(np.float32), 300, rng)
    assert roots.shape == normals.shape == (300, 3)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
    assert cKDTree(body.vertices[body.topology.hairline > -0.02]).query(roots)[0].max() < 0.02
    assert len(roots_on(body, np.zeros(len(body.vertices)), 300, rng)[0]) == 0


def test_guides_start_at_the_skin_have_about_their_length_and_stay_outside_the_head(body, guides):
    surface = cKDTree(body.vertices)
    assert surface.query(guides.points[:, 0])[0].max() < 0.02
    steps = np.linalg.norm(np.diff(guides.points, axis=1), axis=2)
    assert 0.1 < np.median(steps.sum(1)) < 0.32
    distance, near = surface.query(guides.points.reshape(-1, 3))
    offset = guides.points.reshape(-1, 3) - body.vertices[near]
    inside = (offset * body.normals[near]).sum(1) < -0.01
    assert inside.mean() < 0.02
    assert np.isfinite(distance).all()


def test_long_hair_leaves_the_face_free(body):
    rng = np.random.default_rng(1)
    roots, normals = roots_on(body, smoothstep(0.0, 0.01, body.topology.hairline), 300, rng)
    comb = np.tile([0.0, 0.0, 1.0], (300, 1))
    curly = Growth(0.25, steps=20, wave=0.01, wavelength=0.04)
    x, y, z = grow(roots, normals, comb, curly, Obstacle(body), rng).points.reshape(-1, 3).T
    assert not ((np.abs(x) < 0.04) & (y < 0.04) & (y > -0.1) & (z > 0.06)).any()


@pytest.mark.parametrize("make", [cards, tubes])
def test_cards_and_tubes_follow_their_guides(guides, make):
    part, strands = make("hair", guides, 0.006, HAIR, np.random.default_rng(0))
    assert part.triangles.max() < len(part.vertices)
    assert len(strands.along) == len(strands.lock) == len(part.vertices)
    assert strands.along.min() == 0.0
    assert strands.along.max() == 1.0
    distance, _ = cKDTree(guides.points.reshape(-1, 3)).query(part.vertices)
    assert distance.max() < 0.015
    assert np.allclose(np.linalg.norm(part.normals, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("kind", STRAND_TEXTURES)
def test_strands_are_whole_at_the_root_and_gone_at_the_tip(kind):
    picture = strand_texture(kind, 128)
    alpha = picture[..., 3]
    assert alpha[20:50].mean() > 0.35
    assert alpha[-1].max() < 0.2
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    assert 0.3 <= picture[..., :3].min() <= picture[..., :3].max() <= 1.8


@pytest.mark.parametrize("style", OWN_STYLES)
def test_every_cut_covers_the_crown_and_is_hair_all_over(body, style):
    made = grow_style(style, body, body.topology.hairline, np.random.default_rng(3), male=False)
    assert made.length > 0
    points = np.concatenate([part.vertices for part, _, _ in made.parts])
    assert np.isfinite(points).all()
    assert points[:, 1].max() > body.vertices[:, 1].max() - 0.01
    assert len({part.name for part, _, _ in made.parts}) == len(made.parts)
    for part, _, strands in made.parts:
        assert (part.classes == HAIR).all()
        assert len(strands.along) == len(part.vertices)
