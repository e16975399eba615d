"""Anchor targets: on the mesh, lifted onto hair, coloured by the pictures that see them."""

from __future__ import annotations

import numpy as np
import torch

from headlift.model.cameras import orbit_cameras
from headlift_trainer.synthetic.targets import AXIS, MAX_LIFT, Correspondence, anchor_colors, hair_cover, lift_onto_hair


def ball(count: int, radius: float, seed: int = 0) -> np.ndarray:
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    return AXIS + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def itself(count: int) -> np.ndarray:
    """A neighbour graph in which every anchor is alone."""
    return np.repeat(np.arange(count)[:, None], 8, 1)


def test_points_of_a_correspondence_move_with_the_mesh() -> None:
    vertices = np.eye(3)
    found = Correspondence(np.array([[0, 1, 2]]), np.array([[0.2, 0.3, 0.5]]))
    assert np.allclose(found.points(vertices), [[0.2, 0.3, 0.5]])
    assert np.allclose(found.points(vertices + 1), [[1.2, 1.3, 1.5]])


def test_without_hair_nothing_is_lifted() -> None:
    skin = ball(50, 0.08)
    lifted, under = lift_onto_hair(skin, np.empty((0, 3)), itself(50))
    assert np.array_equal(lifted, skin)
    assert not under.any()


def test_scalp_under_a_shell_of_hair_is_lifted_onto_it() -> None:
    skin = ball(400, 0.08)
    skin = skin[skin[:, 1] > AXIS[1] + 0.01]
    lifted, under = lift_onto_hair(skin, ball(60_000, 0.11, seed=1), itself(len(skin)))
    assert under.all()
    assert np.allclose(np.linalg.norm(lifted - AXIS, axis=1), 0.11, atol=0.003)


def test_no_anchor_is_lifted_further_than_allowed() -> None:
    skin = ball(300, 0.05)
    lifted, _ = lift_onto_hair(skin, ball(60_000, 0.3, seed=2), itself(300))
    assert np.linalg.norm(lifted - skin, axis=1).max() <= MAX_LIFT + 1e-9


def test_anchors_take_the_colour_of_the_views_that_face_them() -> None:
    points = torch.from_numpy(ball(30_000, 0.09)).float()
    normals = torch.nn.functional.normalize(points - torch.from_numpy(AXIS).float(), dim=-1)
    cameras = orbit_cameras([0.0, 180.0], width=64, height=64)
    rgba = torch.ones(2, 4, 64, 64)
    rgba[0, 1:3], rgba[1, 0:2] = 0, 0  # red from the front, blue from the back
    nobody = torch.arange(30_000)[:, None].expand(-1, 8)
    colors, seen = anchor_colors(points, normals, rgba, cameras.viewmats, cameras.Ks, nobody)
    front, back = normals[:, 2] > 0.6, normals[:, 2] < -0.6
    assert torch.allclose(colors[front], torch.tensor([1.0, 0, 0]).expand(int(front.sum()), 3), atol=1e-3)
    assert torch.allclose(colors[back], torch.tensor([0, 0, 1.0]).expand(int(back.sum()), 3), atol=1e-3)
    assert float(seen[front].min()) > float(seen[normals[:, 2].abs() < 0.05].max())


def test_hair_covers_the_anchors_whose_views_show_hair() -> None:
    points = torch.from_numpy(ball(30_000, 0.09)).float()
    normals = torch.nn.functional.normalize(points - torch.from_numpy(AXIS).float(), dim=-1)
    cameras = orbit_cameras([0.0, 180.0], width=64, height=64)
    hair, alpha = torch.zeros(2, 64, 64), torch.ones(2, 64, 64)
    hair[1] = 1.0  # seen from behind there is nothing but hair
    nobody = torch.arange(30_000)[:, None].expand(-1, 8)
    cover = hair_cover(points, normals, hair, alpha, cameras.viewmats, cameras.Ks, nobody)
    assert float(cover[normals[:, 2] > 0.6].max()) < 0.01
    assert float(cover[normals[:, 2] < -0.6].min()) > 0.99
