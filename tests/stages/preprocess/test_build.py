"""Settings become a stage, and a name that changes with everything that results depend on."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from headlift.errors import IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.passes import counted_passes
from headlift.pretrained.matting import MattingNetwork
from headlift.stages.preprocess import Preprocess, build_preprocess
from headlift.stages.preprocess.detect.haar import HaarFaceDetector
from headlift.stages.preprocess.detect.learned import LearnedFaceDetector
from headlift.stages.preprocess.geometry.resample import apply, compose, invert, scale_of
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter
from headlift.stages.preprocess.matte.headnet import HeadNetMatter

CPU = torch.device("cpu")


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
        torch.jit.script(TinyModnet()).save(str(folder / "modnet.pt"))
    return folder


def test_auto_is_learned_with_a_trained_headnet_and_classical_without(mini, tiny):
    learned = build_preprocess(mini, CPU, digest="abc", size=256)
    assert isinstance(learned.stage.detector, LearnedFaceDetector)
    assert isinstance(learned.stage.matter, HeadNetMatter)
    assert learned.fingerprint == "learned-3 headnet=abc size=256"
    classical = build_preprocess(tiny, CPU, digest="abc", size=256)
    assert isinstance(classical.stage.detector, HaarFaceDetector)
    assert isinstance(classical.stage.matter, GrabCutMatter)
    assert classical.fingerprint == "classical-3 size=256"


def test_classical_can_be_asked_for_and_learned_cannot_be_had_untrained(mini, tiny):
    assert isinstance(build_preprocess(mini, CPU, digest="abc", mode="classical").stage.detector, HaarFaceDetector)
    with pytest.raises(IncompatibleWeightsError, match="'tiny' has no trained HeadNet"):
        build_preprocess(tiny, CPU, digest="abc", mode="learned")


def test_other_networks_take_headnets_place_and_change_the_name(mini, files):
    plain = build_preprocess(mini, CPU, digest="abc")
    matting = build_preprocess(mini, CPU, digest="abc", matting_weights=files / "modnet.pt")
    assert isinstance(matting.stage.matter, MattingNetwork)
    names = {plain.fingerprint, matting.fingerprint}
    names.add(build_preprocess(mini, CPU, digest="abd").fingerprint)
    names.add(build_preprocess(mini, CPU, digest="abc", size=256).fingerprint)
    assert len(names) == 4
    with pytest.raises(MissingWeightsError, match=r"gone\.pt"):
        build_preprocess(mini, CPU, digest="abc", matting_weights=files / "gone.pt")


@pytest.fixture(scope="module")
def stage(mini) -> Preprocess:
    return build_preprocess(mini, CPU, digest="abc", size=256).stage


def test_the_learned_stage_frames_as_the_classical_one_does(stage, astronaut, encode):
    learned = stage(encode(astronaut))
    classical = Preprocess(size=256)(encode(astronaut))
    between = compose(learned.portrait.crop_from_source.numpy(), invert(classical.portrait.crop_from_source.numpy()))
    assert np.abs(apply(between, (128.0, 128.0)) - 128.0).max() < 16
    assert scale_of(between) == pytest.approx(1.0, abs=0.12)
    assert learned.quality.matte_confidence > 0.8
    assert learned.quality.reasons == ()
    assert learned.quality.face_score > 0.8


def test_a_head_from_behind_becomes_a_portrait_that_says_so(stage, from_behind, encode):
    picture, _ = from_behind
    quality = stage(encode(picture)).quality
    assert "FROM_BEHIND" in quality.reasons
    assert "EYES_NOT_FOUND" in quality.reasons
    assert 0 < quality.score < 0.5


def test_detection_and_matte_cost_two_passes_of_headnet_at_most(stage, astronaut, encode):
    with counted_passes() as passes:
        stage(encode(astronaut))
    assert passes["headnet"] <= 2
    assert "outline_fit" not in passes
