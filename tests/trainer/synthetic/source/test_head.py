"""Heads: geometry, hair, shells, dressing."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.base.shells import Body, Shell, _refined, shell_part
from headlift_trainer.synthetic.classes import CLOTH, FACE, HAIR
from headlift_trainer.synthetic.hair.beards import beard_mask
from headlift_trainer.synthetic.hair.color import hair_color
from headlift_trainer.synthetic.hair.cut import HAIR_POINTS
from headlift_trainer.synthetic.render.views import orbit_view
from headlift_trainer.synthetic.skin.tone import skin_tone
from headlift_trainer.synthetic.source.appearance import dress
from headlift_trainer.synthetic.source.head import sample_head
from headlift_trainer.synthetic.wear.cloth import NECKLINES, neckline_field


def test_a_seed_always_gives_the_same_head(assets, head):
    again = sample_head(head.seed, assets)
    assert np.array_equal(head.base_vertices, again.base_vertices)
    assert np.array_equal(head.scene.positions, again.scene.positions)
    assert head.attributes() == again.attributes()
    other = sample_head(head.seed + 1, assets)
    assert not np.array_equal(head.base_vertices, other.base_vertices)


def test_heads_are_whole_and_in_frame(assets):
    styles = set()
    for seed in range(12):
        head = sample_head(seed, assets)
        styles.add(head.hair.style)
        scene = head.scene
        assert np.isfinite(scene.positions).all()
        assert np.isfinite(scene.transfer).all()
        assert scene.triangles.max() < len(scene.positions)
        assert len(head.base_vertices) == len(assets.makehuman.base.vertices)
        eyes = scene.positions[scene.slice_of("eyes")]
        assert np.allclose(eyes.mean(0), [0, 0.028, 0.042], atol=0.004)
        assert head.hair.points.shape in ((HAIR_POINTS, 3), (0, 3))
        assert {part.name for part in scene.parts} >= {"skin", "cloth", "eyes"}
        assert (head.hair.scalp >= 0).all()
        assert (head.hair.scalp <= 1).all()
    assert len(styles) >= 3


def test_hair_stands_outside_the_skull(assets):
    for seed in range(12):
        head = sample_head(seed, assets)
        if len(head.hair.points):
            distance = np.linalg.norm(head.hair.points - np.array([0, 0.03, -0.035]), axis=1)
            assert np.median(distance) > 0.08


def test_refining_keeps_the_surface_and_welds_edges(assets):
    body = Body.of(assets.topology, assets.topology.mean)
    triangles = assets.topology.triangles[:200]
    table, refined = _refined(body.vertices, triangles)

    def area(points, faces):
        corners = points[faces]
        return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2

    assert len(refined) == 4 * len(triangles)
    assert area(table, refined) == pytest.approx(area(body.vertices, triangles), rel=1e-5)
    assert len(np.unique(table, axis=0)) == len(table) - (len(body.vertices) - len(np.unique(body.vertices, axis=0)))


def test_a_shell_floats_above_its_field_and_fades_at_its_border(assets):
    body = Body.of(assets.topology, assets.topology.mean)
    field = np.asarray(-0.15 - body.vertices[:, 1], np.float32)
    shell = Shell("s", CLOTH, 0, fade_width=0.001, refinements=1, lump_size=0.2, lump_frequency=40.0)
    part = shell_part(body, shell, field, np.full(len(field), 0.01, np.float32), np.random.default_rng(0))
    assert part.fade is not None
    opaque = part.fade > 1
    assert part.vertices[opaque, 1].max() < -0.13
    assert opaque.any()
    distance, _ = cKDTree(body.vertices).query(part.vertices)
    assert distance.max() < 0.03
    assert (part.classes == CLOTH).all()


@pytest.mark.parametrize("style", NECKLINES)
def test_necklines_leave_the_face_bare_and_cover_the_chest(assets, style):
    field = neckline_field(assets.topology, style, np.random.default_rng(0))
    y = assets.topology.mean[:, 1]
    assert (field[y > -0.05] < 0).all()
    assert (field[y < -0.33] > 0).all()


@pytest.mark.parametrize("style", ["full", "goatee", "moustache", "stubble"])
def test_beards_grow_in_front_and_not_on_lips_or_nose(assets, style):
    topology = assets.topology
    mask = beard_mask(Body.of(topology, topology.mean), style)
    assert mask.max() > 0.2
    assert (mask[topology.upper_lip | topology.lower_lip | topology.nose] == 0).all()
    assert (mask[topology.mean[:, 2] < -0.04] == 0).all()
    assert (mask[topology.mean[:, 1] > 0.02] == 0).all()


def test_more_melanin_is_darker_in_every_channel():
    tones = np.stack([skin_tone(melanin, 0.0) for melanin in np.linspace(0, 1, 9)])
    assert (np.diff(tones, axis=0) < 0).all()
    assert (tones[:, 0] > tones[:, 1]).all()
    assert (tones[:, 1] > tones[:, 2]).all()
    more = skin_tone(0.4, 0.2) / skin_tone(0.4, 0.0)
    assert more[0] > more[1]


def test_hair_greys_with_age():
    young = np.mean([hair_color(np.random.default_rng(seed), 0.2, 0.5) for seed in range(100)])
    old = np.mean([hair_color(np.random.default_rng(seed), 0.2, 1.0) for seed in range(100)])
    assert old > young + 0.05


def test_appearances_share_geometry_and_are_well_exposed(assets, head):
    view = orbit_view(0, 0, 96)
    first = dress(head, assets, np.random.default_rng(1))
    for seed in range(1, 9):
        appearance = dress(head, assets, np.random.default_rng(seed))
        picture = appearance.renderer.draw(view, 96)
        face = (picture.classes == FACE) & (picture.rgba[..., 3] == 255)
        assert 50 < picture.rgba[face][:, :3].max(-1).mean() < 250
        assert (picture.rgba[..., :3] <= picture.rgba[..., 3:]).all()
        assert appearance.renderer.scene is head.scene
    assert np.array_equal(
        first.renderer.draw(view, 96).rgba, dress(head, assets, np.random.default_rng(1)).renderer.draw(view, 96).rgba
    )


def test_painted_scalp_is_labelled_hair(head):
    rows = head.scene.slice_of("skin")
    painted = head.hair.scalp[head.skin_index] > 0.5
    assert (head.scene.classes[rows][painted] == HAIR).all()
