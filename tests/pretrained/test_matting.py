"""Matting networks: two published formats behind one call."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError
from headlift.pretrained.matting import load_matting, modnet_size


class TinyModnet(nn.Module):
    """In the layout of MODNet's own TorchScript export: normalised picture in, matte out."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))

    def forward(self, img: Tensor) -> Tensor:
        assert img.shape[2] % 32 == 0
        assert img.shape[3] % 32 == 0
        return torch.sigmoid(self.gain * img[:, :1])


class TinyRvm(nn.Module):
    """In the layout of Robust Video Matting's TorchScript files."""

    def forward(
        self,
        src: Tensor,
        r1: Tensor | None = None,
        r2: Tensor | None = None,
        r3: Tensor | None = None,
        r4: Tensor | None = None,
        downsample_ratio: float = 1.0,
        segmentation_pass: bool = False,
    ) -> list[Tensor]:
        assert downsample_ratio <= 1.0
        alpha = torch.sigmoid(20.0 * (2.0 * src[:, :1] - 1.0))
        return [src, alpha, alpha, alpha, alpha, alpha]


class Stranger(nn.Module):
    """Some other network."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens


class WrongAnswer(nn.Module):
    """Called like MODNet, but no matting network."""

    def forward(self, img: Tensor) -> Tensor:
        return img


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matting")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for network in (TinyModnet(), TinyRvm(), Stranger(), WrongAnswer()):
            torch.jit.script(network).save(str(folder / f"{type(network).__name__}.torchscript"))
    return folder


@pytest.mark.parametrize(("name", "kind"), [("TinyModnet", "modnet"), ("TinyRvm", "rvm")])
def test_both_formats_matte_pictures_of_any_size(files, name, kind):
    matter = load_matting(files / f"{name}.torchscript")
    assert matter.kind == kind
    picture = np.zeros((411, 530, 3), np.uint8)
    picture[:, 260:] = 255
    alpha = matter.matte(picture, (0.0, 0.0, 1.0, 1.0))
    assert alpha.shape == (411, 530)
    assert alpha.dtype == np.float32
    assert alpha[:, 280:].min() > 0.99
    assert alpha[:, :240].max() < 0.01
    assert np.array_equal(alpha, matter.matte(picture, (0.0, 0.0, 1.0, 1.0)))


def test_other_networks_are_refused_by_their_inputs_or_their_answer(files):
    with pytest.raises(CorruptWeightsError, match=r"takes \(tokens\); MODNet takes \(img\)"):
        load_matting(files / "Stranger.torchscript")
    with pytest.raises(CorruptWeightsError, match="no matte of one channel"):
        load_matting(files / "WrongAnswer.torchscript").matte(np.zeros((64, 64, 3), np.uint8), (0.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("size", "expected"), [((768, 768), (512, 512)), ((300, 400), (512, 672)), ((400, 900), (384, 896))]
)
def test_modnet_sees_its_own_size(size, expected):
    assert modnet_size(*size) == expected
