"""What heads wear: glasses, jewellery, hats, clothes, and its colours."""

import numpy as np
import pytest

from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.classes import CLOTH, EARRING, GLASSES, HAT, NECKLACE
from headlift_trainer.synthetic.hair.cropped import cropped_hair_part
from headlift_trainer.synthetic.wear.accessories import _earrings, _glasses, _necklace
from headlift_trainer.synthetic.wear.garments import STYLES as GARMENTS
from headlift_trainer.synthetic.wear.garments import make_garment
from headlift_trainer.synthetic.wear.hats import STYLES as HATS
from headlift_trainer.synthetic.wear.hats import make_hat, tucked
from headlift_trainer.synthetic.wear.wardrobe import color_name, draw_cloth_color, draw_worn


@pytest.fixture(scope="module")
def body(assets):
    return Body.of(assets.topology, assets.topology.mean)


@pytest.mark.parametrize("seed", range(6))
def test_glasses_stand_before_the_eyes_and_reach_both_ears(body, seed):
    _, parts = _glasses(body, np.random.default_rng(seed))
    points = np.concatenate([part.vertices for part in parts])
    lenses = [part for part in parts if "lens" in part.name]
    assert len(lenses) == 2
    for lens, side in zip(lenses, (1, -1), strict=True):
        assert abs(lens.vertices[:, 0].mean() - side * 0.033) < 0.006
        assert abs(lens.vertices[:, 1].mean() - 0.026) < 0.008
    assert points[:, 2].min() < 0.0
    assert (points[:, 0].min() < -0.06) & (points[:, 0].max() > 0.06)
    assert all((part.classes == GLASSES).all() for part in parts)


@pytest.mark.parametrize("style", ["stud", "hoop", "drop"])
def test_earrings_hang_at_both_ears(body, style):
    (part,) = _earrings(style, body, np.random.default_rng(0))
    assert (part.classes == EARRING).all()
    assert part.vertices[:, 0].min() < -0.05
    assert part.vertices[:, 0].max() > 0.05


@pytest.mark.parametrize("style", ["chain", "beads"])
def test_necklaces_lie_on_the_neck(body, style):
    part = _necklace(style, body, np.random.default_rng(0))
    assert (part.classes == NECKLACE).all()
    assert part.vertices[:, 1].max() < -0.09
    assert part.vertices[:, 1].min() > -0.22


@pytest.mark.parametrize("style", [style for style in HATS if style != "none"])
def test_hats_cover_the_crown_and_leave_eyes_and_mouth_free(body, style):
    hat = make_hat(style, body, np.random.default_rng(1))
    points = np.concatenate([part.vertices for part in hat.parts])
    assert np.isfinite(points).all()
    assert all((part.classes == HAT).all() for part in hat.parts)
    assert len({part.name for part in hat.parts}) == len(hat.parts)
    if style != "headscarf":
        assert not ((points[:, 1] < 0.03) & (points[:, 2] > 0.03) & (np.abs(points[:, 0]) < 0.05)).any()
    if style != "headband":
        assert points[:, 1].max() > body.vertices[:, 1].max()
        assert hat.hides(np.array([[0.0, 0.15, -0.03]], np.float32))[0] > 0.9


def test_hair_below_a_hat_fades_and_hair_beside_it_stays(body):
    part = cropped_hair_part(body, 0.02, 0.4, body.topology.hairline, np.random.default_rng(0))
    hat = make_hat("beanie", body, np.random.default_rng(2))
    kept = tucked(part, hat).fade
    assert kept is not None
    hidden = hat.hides(part.vertices)
    assert kept[hidden > 0.99].max(initial=0.0) < 0.02
    back = (hidden == 0) & (part.vertices[:, 2] < -0.05)
    assert np.allclose(kept[back], np.clip(part.fade[back], 0, 1))


@pytest.mark.parametrize("style", GARMENTS)
def test_clothes_are_cloth_and_leave_the_face_bare(body, style):
    garment = make_garment(style, body, np.random.default_rng(4))
    assert len({part.name for part in garment.parts}) == len(garment.parts)
    assert (garment.cover[body.vertices[:, 1] > -0.05] < 0).all()
    for part in garment.parts:
        assert (part.classes == CLOTH).all()
        assert np.isfinite(part.vertices).all()
        visible = part.vertices if part.fade is None else part.vertices[part.fade > 0.5]
        assert visible[:, 1].max() < -0.02


def test_colours_of_clothes_are_albedos_with_everyday_names():
    rng = np.random.default_rng(0)
    for _ in range(50):
        color = draw_cloth_color(rng)
        assert ((color > 0) & (color < 0.7)).all()
        assert color_name(color).isalpha()
    assert color_name(np.array([0.01, 0.01, 0.01])) == "black"
    assert color_name(np.array([0.6, 0.6, 0.6])) == "white"
    assert color_name(np.array([0.4, 0.02, 0.02])) == "red"
    assert color_name(np.array([0.03, 0.08, 0.4])) == "blue"
    assert draw_worn(np.random.default_rng(1)) is not None
