from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from headlift.pretrained.face_mesh import LEFT, LIPS, POINTS, RIGHT, SIDE, FaceMesh, GuidedFaceMesh, face_regions


class Answering(nn.Module):
    """The network's seven outputs, all points where they are told to be in the crop's pixels."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points, self.crops = points, []

    def forward(self, crops: Tensor) -> list[Tensor]:
        self.crops.append(crops)
        mesh = torch.cat([self.points[:468], torch.zeros(468, 1)], 1).reshape(1, 1, 1, -1)
        parts = [self.points[list(n)].reshape(1, 1, 1, -1) for n in (LIPS, LEFT, RIGHT)]
        irises = [self.points[468:473].reshape(1, 1, 1, -1), self.points[473:].reshape(1, 1, 1, -1)]
        return [o.expand(len(crops), -1, -1, -1) for o in (mesh, *parts, *irises, torch.full((1, 1, 1, 1), 3.0))]


def face(turn: float = 0.0) -> Tensor:
    """Points [1, P, 2] of an upright oval, turned about its middle (.4, .6)."""
    angles = torch.linspace(0, 2 * math.pi, POINTS)
    points = torch.stack([0.1 * angles.cos(), 0.12 * angles.sin()], -1)
    points[33], points[263] = torch.tensor([-0.05, -0.02]), torch.tensor([0.05, -0.02])
    c, s = math.cos(turn), math.sin(turn)
    return (points @ torch.tensor([[c, s], [-s, c]]) + torch.tensor([0.4, 0.6]))[None]


def test_a_region_is_an_upright_square_about_the_face_with_a_margin() -> None:
    for turn in (0.0, 0.4, -1.2):
        (x, y, side, found) = face_regions(face(turn))[0].tolist()
        assert (round(x, 2), round(y, 2)) == (0.4, 0.6)
        assert abs(side - 1.5 * 0.24) < 0.002
        assert abs(found - turn) < 1e-5


def test_points_come_back_in_the_picture_whatever_the_region() -> None:
    corners = torch.rand(POINTS, 2) * SIDE
    mesh = FaceMesh(Answering(corners))  # type: ignore[arg-type]
    points, score = mesh(torch.rand(1, 3, 64, 64), torch.tensor([[0.5, 0.5, 1.0, 0.0]]))
    assert torch.allclose(points[0], corners / SIDE, atol=1e-5)
    turned, _ = mesh(torch.rand(1, 3, 64, 64), torch.tensor([[0.5, 0.5, 1.0, math.pi / 2]]))
    expected = torch.stack([1 - corners[:, 1] / SIDE, corners[:, 0] / SIDE], -1)  # clockwise by a quarter
    assert torch.allclose(turned[0], expected, atol=1e-5)
    assert abs(float(score[0]) - torch.tensor(3.0).sigmoid()) < 1e-6


def test_the_network_sees_the_region_and_nothing_else() -> None:
    picture = torch.zeros(1, 3, 128, 128)
    picture[..., 32:96, 32:96] = 1
    network = Answering(torch.zeros(POINTS, 2))
    FaceMesh(network)(picture, torch.tensor([[0.5, 0.5, 0.36, 0.3]]))  # type: ignore[arg-type]
    assert float(network.crops[0].min()) > 0.999


def test_a_second_round_looks_where_the_first_one_found_the_face() -> None:
    inside = (face()[0] - torch.tensor([0.4, 0.6])) * 300 + torch.tensor([120.0, 96.0])
    network = Answering(inside)
    GuidedFaceMesh(FaceMesh(network), rounds=2)(torch.rand(1, 3, 64, 64), face())  # type: ignore[arg-type]
    assert len(network.crops) == 2
    assert not torch.equal(*network.crops)
