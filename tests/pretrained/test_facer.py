"""facer's parsing networks: their crops, their classes, their files."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError, InvalidInputError
from headlift.pretrained.facer import (
    CELEBM,
    LAPA,
    SIDE,
    celebm_crop,
    lapa_crop,
    load_face_parsing,
    similarity_onto,
    squeezed,
    unsqueezed,
)

# Five points of a face in a picture of 320 x 300 pixels: 60 pixels between the eyes, a little rolled.
POINTS = torch.tensor([[[121.0, 130.0], [180.0, 140.0], [148.0, 165.0], [122.0, 196.0], [166.0, 204.0]]])


class Brightness(nn.Module):
    """In the layout of facer's files: (class scores, features). Its class says how bright a pixel is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.levels = nn.Parameter((torch.arange(classes) + 0.5) / classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = -400.0 * (x.mean(1, keepdim=True) - self.levels.view(1, -1, 1, 1)).square()
        return scores, x


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, classes in (("celebm", 19), ("lapa", 11), ("five", 5)):
            torch.jit.script(Brightness(classes)).save(str(folder / f"{name}.pt"))
    return folder


def test_which_file_it_is_follows_from_its_classes(files):
    assert load_face_parsing(files / "celebm.pt").layout is CELEBM
    assert load_face_parsing(files / "lapa.pt").layout is LAPA
    with pytest.raises(CorruptWeightsError, match=r"five.pt answers \(1, 5, 448, 448\)"):
        load_face_parsing(files / "five.pt")


@pytest.mark.parametrize(("name", "shown", "expected"), [("celebm", 14, 14), ("lapa", 10, 14), ("lapa", 7, 13)])
def test_classes_come_back_at_their_pixels_in_celebm_order(files, name, shown, expected):
    parse = load_face_parsing(files / f"{name}.pt")
    count = len(parse.layout.classes)
    picture = torch.full((1, 3, 300, 320), 0.5 / count)
    picture[:, :, 140:180, 130:170] = (shown + 0.5) / count
    answer = parse(picture, POINTS)
    assert answer.shape == (1, 19, 300, 320)
    assert torch.allclose(answer.sum(1), torch.ones(1, 300, 320), atol=1e-5)
    found = answer.argmax(1)[0]
    assert (found[145:175, 135:165] == expected).all()
    assert (found[:100] == 0).all()
    assert (found[200:, :90] == 0).all()


def test_what_the_crop_does_not_reach_is_background(files):
    parse = load_face_parsing(files / "celebm.pt")
    answer = parse(torch.full((1, 3, 900, 900), 0.99), POINTS)
    assert answer[0, 0, -1, -1] == 1.0
    assert answer[0, 18, 160, 150] > 0.5


def test_five_points_are_needed(files):
    parse = load_face_parsing(files / "celebm.pt")
    for points in (POINTS[:, :4], torch.full((1, 5, 2), torch.nan), torch.ones(1, 5, 2)):
        with pytest.raises(InvalidInputError, match="five points"):
            parse(torch.zeros(1, 3, 300, 320), points)


def test_a_face_in_its_own_places_is_cropped_as_it_is():
    places = torch.tensor([[196.0, 226.0], [316.0, 226.0], [256.0, 286.0], [220.0, 360.4], [292.0, 360.4]])
    matrix = lapa_crop(places[None])
    expected = torch.eye(3) * torch.tensor([447 / 512, 447 / 512, 1.0])
    assert torch.allclose(matrix[0], expected, atol=1e-3)


def test_the_celebm_crop_is_a_square_four_eye_distances_wide():
    upright = torch.tensor([[[100.0, 100.0], [160.0, 100.0], [130.0, 130.0], [110.0, 160.0], [150.0, 160.0]]])
    matrix = celebm_crop(upright)[0]
    assert matrix[0, 0] == pytest.approx(SIDE / 240, rel=1e-4)  # 2 eye distances beat 1.8 * 60 of eyes to mouth
    eyes = matrix[:2, :2] @ torch.tensor([130.5, 100.5]) + matrix[:2, 2]
    assert eyes.tolist() == pytest.approx([SIDE / 2, SIDE / 2 - 6 * SIDE / 240], abs=0.1)
    turned = celebm_crop((upright - 130) @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]]) + 130)[0]
    assert torch.allclose(turned[:2, :2].det(), matrix[:2, :2].det(), rtol=1e-3)


def test_similarities_are_recovered():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2, 6, 2, generator=generator) * 100
    true = torch.tensor([[0.8, -0.5, 7.0], [0.5, 0.8, -3.0], [0, 0, 1]])
    targets = F.pad(points, (0, 1), value=1.0) @ true.mT
    for i in range(2):
        assert torch.allclose(similarity_onto(points[i : i + 1], targets[i, :, :2])[0], true, atol=1e-3)


def test_squeezing_keeps_the_middle_and_can_be_undone():
    unit = torch.linspace(-0.97, 0.97, 101)
    assert torch.allclose(squeezed(unsqueezed(unit, 0.8), 0.8), unit, atol=1e-4)
    assert torch.equal(squeezed(unit, 0.0), unit)
    assert torch.allclose(squeezed(torch.tensor([0.1, -0.15]), 0.8), torch.tensor([0.1, -0.15]))
    assert squeezed(torch.tensor([50.0]), 0.8) <= 1.0
