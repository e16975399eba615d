"""Pairs of views follow from the cameras, and extreme ones are opposite."""

from __future__ import annotations

import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift_trainer.evaluation.protocols import between, directions, pairs

YAWS = [-90, -70, -45, -20, 0, 20, 45, 70, 90, 180]


def test_directions_are_those_that_orbit_cameras_were_made_from() -> None:
    yaws, pitches = [0.0, 40.0, -170.0], [10.0, -30.0, 60.0]
    found = directions(orbit_cameras(yaws, pitches).viewmats)
    assert torch.allclose(found, torch.tensor([yaws, pitches]).T, atol=1e-2)
    assert between((0, 0), (90, 0)) == pytest.approx(90)
    assert between((170, 0), (-170, 0)) == pytest.approx(20)


def test_an_extreme_target_is_the_mirrored_direction() -> None:
    found = pairs("extreme", orbit_cameras(YAWS).viewmats)
    assert {(YAWS[p.input], YAWS[p.target]) for p in found} == {
        (-90, 90), (-70, 70), (-45, 45), (45, -45), (70, -70), (90, -90),
    }  # fmt: skip


def test_vertical_pairs_are_asked_for_only_where_wanted() -> None:
    viewmats = orbit_cameras([0, 0, 45, -45], [25, -25, 0, 0]).viewmats
    assert {(p.input, p.target) for p in pairs("extreme", viewmats)} == {(2, 3), (3, 2)}
    assert {(p.input, p.target) for p in pairs("extreme", viewmats, vertical=True)} == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_novel_targets_are_other_views_of_the_face_and_at_most_four_an_input() -> None:
    viewmats = orbit_cameras(YAWS).viewmats
    found = pairs("novel", viewmats)
    assert {YAWS[p.input] for p in found} == {0, 45, -45}
    for pair in found:
        assert pair.input != pair.target
        assert YAWS[pair.target] != 180
        assert abs(YAWS[pair.target] - YAWS[pair.input]) <= 75
    assert all(sum(p.input == i for p in found) <= 4 for i in range(len(YAWS)))
    assert found == pairs("novel", viewmats)


def test_a_lone_camera_gives_no_pairs_and_an_unknown_protocol_is_refused() -> None:
    viewmats = orbit_cameras([0]).viewmats
    assert pairs("novel", viewmats) == pairs("extreme", viewmats) == []
    with pytest.raises(InvalidInputError, match="sideways"):
        pairs("sideways", viewmats)  # type: ignore[arg-type]
