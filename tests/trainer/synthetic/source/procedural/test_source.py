"""Procedural heads: whole, repeatable, labelled, and like a person where numbers can tell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headlift_trainer.synthetic.classes import (
    BROW_L,
    CLOTH,
    EAR_L,
    EAR_R,
    EYE_L,
    EYE_R,
    FACE,
    LIP_LOW,
    LIP_UP,
    NECK,
    NOSE,
)
from headlift_trainer.synthetic.render.views import orbit_view
from headlift_trainer.synthetic.source.expressions import EXPRESSIONS
from headlift_trainer.synthetic.source.procedural import ProceduralHead, ProceduralSource
from headlift_trainer.synthetic.source.procedural.mesh import clustered, refined, topology
from headlift_trainer.synthetic.source.procedural.shape import Person, displaced

SEED = 80_009  # smiles with teeth


@pytest.fixture(scope="module")
def head() -> ProceduralHead:
    return ProceduralSource().head(SEED)


def edges_of(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)


def person(**code: float) -> Person:
    return Person(0.5, 0.5, {}, "test", code, seed=1)


def test_refining_leaves_no_gap_and_keeps_the_area() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]], np.int32)
    for chosen in range(16):
        mask = np.array([bool(chosen >> k & 1) for k in range(4)])
        points, finer = refined(vertices, triangles, mask)
        corners = points[finer]
        area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2
        assert (area > 0).all()
        assert np.isclose(area.sum(), 2.0)
        edges, count = edges_of(finer)
        border = edges[count == 1]
        assert np.isclose(np.linalg.norm(points[border[:, 0]] - points[border[:, 1]], axis=1).sum(), 6.0)


def test_clustering_merges_only_where_it_is_asked_to() -> None:
    vertices = np.array([[0.1, 0.1, 0], [0.2, 0.1, 0], [5.0, 0, 0], [5.1, 0, 0], [0.1, 3, 0]])
    triangles = np.array([[0, 2, 4], [1, 2, 4], [2, 3, 4]], np.int32)
    merged, kept = clustered(vertices, triangles, np.array([1.0, 1.0, 0.0, 0.0, 0.0]))
    assert len(merged) == 4
    assert len(kept) == 1  # two triangles became one and the same


def test_the_scalp_is_closed() -> None:
    found = topology()
    edges, count = edges_of(found.triangles)
    open_ends = found.mean[np.unique(edges[count == 1])]
    assert not (open_ends[:, 1] > -0.10).any()


def test_the_same_seed_gives_the_same_head_and_another_seed_another(head: ProceduralHead) -> None:
    again, other = ProceduralSource().head(SEED), ProceduralSource().head(SEED + 1)
    assert np.array_equal(head.base_vertices, again.base_vertices)
    assert not np.allclose(head.base_vertices, other.base_vertices)


def test_the_front_shows_every_part_of_a_face_where_it_belongs(head: ProceduralHead) -> None:
    picture = head.dress(np.random.default_rng(0)).renderer.draw(orbit_view(0, 0, 128), 128)
    classes = picture.classes
    expected = (NECK, FACE, CLOTH, BROW_L, EYE_R, EYE_L, NOSE, LIP_LOW, LIP_UP)
    places = {label: np.argwhere(classes == label).mean(0) for label in expected if (classes == label).any()}
    assert set(places) == set(expected)
    assert places[EYE_L][1] > 64 > places[EYE_R][1]  # the head's left is on the picture's right
    assert places[BROW_L][0] < places[EYE_L][0] < places[NOSE][0] < places[LIP_UP][0] < places[LIP_LOW][0]
    assert {EAR_L, EAR_R} & set(np.unique(classes).tolist())
    assert (picture.rgba[..., 3] > 0).mean() > 0.2


def test_landmarks_stand_in_ibugs_order(head: ProceduralHead) -> None:
    x, y, z = head.landmarks.T
    assert len(x) == 68
    assert x[0] < 0 < x[16]
    assert y[8] == y.min()
    assert np.argmax(z) in (29, 30, 33)
    assert x[36] < x[39] < x[42] < x[45]
    assert x[48] < x[54]
    assert y[51] > y[62] > y[66] > y[57]


def test_an_open_jaw_lowers_the_lower_lip_only() -> None:
    found = topology()
    still, opened = displaced(found.mean, person()), displaced(found.mean, person(jawOpen=0.5))
    down = (still - opened)[:, 1]
    middle = np.abs(found.mean[:, 0]) < 0.015
    assert down[found.lower_lip & middle].mean() > 0.006
    assert abs(down[found.upper_lip & middle].mean()) < 0.001
    assert np.abs(down[found.hairline > 0.0]).max() < 1e-6


def test_a_smile_of_one_side_leaves_the_other_alone() -> None:
    found = topology()
    moved = np.linalg.norm(displaced(found.mean, person(mouthSmile_L=1.0)) - displaced(found.mean, person()), axis=1)
    assert moved[found.mean[:, 0] > 0.015].max() > 0.005
    assert moved[found.mean[:, 0] < -0.006].max() < 1e-4


def test_a_head_tells_what_it_is_in_json_and_in_icts_code(head: ProceduralHead) -> None:
    told = json.loads(json.dumps(head.attributes() | head.dress(np.random.default_rng(0)).attributes))
    assert told["source"] == "procedural"
    assert told["expression"] == "toothy smile"
    assert head.expression_code[EXPRESSIONS.index("mouthSmile_L")] > 0.4
    assert 0 <= head.expression_code.min() <= head.expression_code.max() <= 1


def test_hair_points_lie_outside_the_skull(head: ProceduralHead) -> None:
    assert head.hair_points.shape in ((20_000, 3), (0, 3))
    if len(head.hair_points):
        assert head.hair_points[:, 1].mean() > 0.0
