"""Parsers answer for every pixel of a crop, in one order of classes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headlift.pretrained.facer import load_face_parsing
from headlift.stages.preprocess.detect.headnet import FIVE_POINTS
from headlift.stages.preprocess.geometry.crop import crop_from_face, face_in_frame, project_frontal
from headlift.stages.preprocess.geometry.resample import similarity
from headlift.stages.preprocess.interfaces import Parser
from headlift.stages.preprocess.parsing import FacerParser, five_points

SIDE = 192
FRAME = np.array([[1 / SIDE, 0.0, 0.0], [0.0, 1 / SIDE, 0.0]])


class Left(nn.Module):
    """In the layout of facer's files: hair everywhere."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.zeros(x.shape[0], 19, x.shape[2], x.shape[3])
        scores[:, 14] = 9.0
        return scores, x


def test_facer_parses_about_the_faces_own_points(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Left()).save(str(tmp_path / "net.pt"))
    parser = FacerParser(load_face_parsing(tmp_path / "net.pt"))
    assert isinstance(parser, Parser)
    parsing = parser.parse(np.zeros((SIDE, SIDE, 3), np.uint8), face_in_frame(FRAME, score=1.0))
    assert parsing.shape == (19, SIDE, SIDE)
    assert parsing[14, SIDE // 2, SIDE // 2] > 0.99
    assert parsing[0, -1, 0] == 1.0


@pytest.mark.parametrize("turn", [0.0, 40.0])
def test_unknown_points_are_those_of_an_average_face(turn):
    frame = similarity((300.0, 200.0), (0.5, 0.5), scale=1 / 250, turn_deg=-turn)
    face = face_in_frame(frame, score=1.0)
    points = five_points(face)
    expected = [project_frontal(tuple(p)) for p in FIVE_POINTS.tolist()]
    matrix = crop_from_face(face, 1)
    assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], expected, atol=1e-9)
    marks = np.arange(10.0).reshape(5, 2)
    assert five_points(face_in_frame(frame, score=1.0, landmarks=marks)) is marks
