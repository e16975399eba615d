"""Settings become a stage, and a name that changes with everything that results depend on."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headlift.errors import IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import load_checkpoint
from headlift.preprocess import Preprocess, PreprocessOptions, build_preprocess
from headlift.preprocess.detect import HaarFaceDetector
from headlift.preprocess.learned import LearnedFaceDetector
from headlift.preprocess.matte import GrabCutMatter
from headlift.preprocess.parsing import FacerParser, HeadNetParser
from headlift.preprocess.resample import apply, compose, invert, scale_of
from headlift.preprocess.trimap import HeadNetMatter
from headlift.pretrained.matting import MattingNetwork

CPU = torch.device("cpu")


class TinyFacer(nn.Module):
    """In the layout of facer's files."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(x.shape[0], 11, x.shape[2], x.shape[3]), x


class TinyModnet(nn.Module):
    """In the layout of MODNet's export."""

    def forward(self, img: Tensor) -> Tensor:
        return torch.sigmoid(img[:, :1])


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint)[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(TinyFacer()).save(str(folder / "facer.pt"))
        torch.jit.script(TinyModnet()).save(str(folder / "modnet.pt"))
    return folder


def test_auto_is_learned_with_a_trained_headnet_and_classical_without(mini, tiny):
    learned = build_preprocess(mini, CPU, digest="abc", size=256)
    assert isinstance(learned.stage.detector, LearnedFaceDetector)
    assert isinstance(learned.stage.matter, HeadNetMatter)
    assert isinstance(learned.stage.parser, HeadNetParser)
    assert learned.fingerprint == "learned-1 headnet=abc size=256 camera=none"
    classical = build_preprocess(tiny, CPU, digest="abc", size=256)
    assert isinstance(classical.stage.detector, HaarFaceDetector)
    assert isinstance(classical.stage.matter, GrabCutMatter)
    assert classical.stage.parser is None
    assert classical.fingerprint == "classical-1 size=256 camera=none"


def test_classical_can_be_asked_for_and_learned_cannot_be_had_untrained(mini, tiny):
    assert isinstance(build_preprocess(mini, CPU, digest="abc", mode="classical").stage.detector, HaarFaceDetector)
    with pytest.raises(IncompatibleWeightsError, match="'tiny' has no trained HeadNet"):
        build_preprocess(tiny, CPU, digest="abc", mode="learned")


def test_other_networks_take_headnets_place_and_change_the_name(mini, files):
    plain = build_preprocess(mini, CPU, digest="abc")
    parsing = build_preprocess(mini, CPU, digest="abc", parsing_weights=files / "facer.pt")
    matting = build_preprocess(mini, CPU, digest="abc", matting_weights=files / "modnet.pt")
    assert isinstance(parsing.stage.parser, FacerParser)
    assert isinstance(matting.stage.matter, MattingNetwork)
    names = {plain.fingerprint, parsing.fingerprint, matting.fingerprint}
    names.add(build_preprocess(mini, CPU, digest="abd").fingerprint)
    names.add(build_preprocess(mini, CPU, digest="abc", size=256).fingerprint)
    assert len(names) == 5
    with pytest.raises(MissingWeightsError, match=r"gone\.pt"):
        build_preprocess(mini, CPU, digest="abc", matting_weights=files / "gone.pt")


@pytest.fixture(scope="module")
def stage(mini) -> Preprocess:
    return build_preprocess(mini, CPU, digest="abc", size=256).stage


def test_the_learned_stage_frames_as_the_classical_one_does_and_parses_on_request(stage, astronaut):
    learned = stage.from_array(astronaut, options=PreprocessOptions(parse=True))
    classical = Preprocess(size=256).from_array(astronaut)
    between = compose(learned.portrait.crop_from_source.numpy(), invert(classical.portrait.crop_from_source.numpy()))
    assert np.abs(apply(between, (128.0, 128.0)) - 128.0).max() < 16
    assert scale_of(between) == pytest.approx(1.0, abs=0.12)
    assert learned.quality.matte_confidence > 0.8
    assert learned.parsing is not None
    assert learned.parsing.shape == (19, 256, 256)
    assert classical.parsing is None
    assert learned.quality.reasons == ()
    assert learned.quality.face_score > 0.8


def test_a_head_from_behind_becomes_a_portrait_that_says_so(stage, from_behind):
    picture, _ = from_behind
    quality = stage.from_array(picture).quality
    assert "FROM_BEHIND" in quality.reasons
    assert "EYES_NOT_FOUND" in quality.reasons
    assert 0 < quality.score < 0.5
