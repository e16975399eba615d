"""The shipped rig, and ARKit's names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headlift import weights
from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.drive.rig import ARKIT_NAMES, MAX_INNER, Rig, indices_of, load_rig, weights_of
from headlift.model.template import Template

RIG = Path(str(weights.__file__)).with_name("rig_builtin.safetensors")


@pytest.fixture(scope="module")
def shipped() -> Template:
    return load_checkpoint(RIG.with_name("mini.safetensors"))[0].template


@pytest.fixture(scope="module")
def rig(shipped: Template) -> Rig:
    return load_rig(RIG, shipped)


def test_the_rig_is_small_and_whole(rig: Rig) -> None:
    assert RIG.stat().st_size <= 600_000
    assert rig.basis.shape == (52, 65_536, 3)
    assert len(rig.inner_points) <= MAX_INNER
    still = [name for name, shape in zip(ARKIT_NAMES, rig.basis, strict=True) if float(shape.norm(dim=1).max()) < 5e-4]
    assert still == ["tongueOut"]
    assert float(rig.inner_basis[ARKIT_NAMES.index("tongueOut")].norm(dim=1).max()) > 0.01


def test_left_and_right_mirror_each_other(rig: Rig, shipped: Template) -> None:
    left, right = (rig.basis[ARKIT_NAMES.index(f"mouthSmile{side}")] for side in ("Left", "Right"))
    torch.testing.assert_close(right, left[shipped.mirror] * torch.tensor([-1.0, 1.0, 1.0]))


def test_anchors_between_the_lips_move_with_one_of_them(rig: Rig, shipped: Template) -> None:
    jaw = rig.basis[ARKIT_NAMES.index("jawOpen")].norm(dim=1)
    middle = (shipped.anchors[:, 0].abs() < 0.012) & (shipped.anchors[:, 2] > 0.05)
    lips = middle & (shipped.anchors[:, 1] > -0.052) & (shipped.anchors[:, 1] < -0.032)
    upper, lower = (jaw[lips] < 0.010).float().mean(), (jaw[lips] > 0.030).float().mean()
    assert min(float(upper), float(lower)) > 0.3
    assert float(upper + lower) > 0.99


def test_names_of_arkit_livelink_and_ict_mean_the_same() -> None:
    assert indices_of(["browDownLeft"]) == indices_of(["BrowDownLeft"]) == indices_of(["browDown_L"])
    assert len(set(ARKIT_NAMES)) == 52


def test_an_unknown_name_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(InvalidInputError, match="mouthSmileLeft"):
        weights_of(["mouthSmileLeftt"], [0.5])


@pytest.mark.parametrize("weight", [-0.01, 1.01, float("nan")])
def test_weights_outside_their_range_are_refused(weight: float) -> None:
    with pytest.raises(InvalidInputError, match=r"0\.\.1"):
        weights_of(["jawOpen"], [weight])


def test_as_many_weights_as_names() -> None:
    with pytest.raises(InvalidInputError, match="2 weights"):
        weights_of(["jawOpen"], [0.1, 0.2])


def test_files_that_are_none(tmp_path: Path, shipped: Template, template: Template) -> None:
    with pytest.raises(MissingWeightsError):
        load_rig(tmp_path / "none.safetensors", shipped)
    (tmp_path / "bad.safetensors").write_bytes(b"no rig")
    with pytest.raises(CorruptWeightsError, match="damaged"):
        load_rig(tmp_path / "bad.safetensors", shipped)
    with pytest.raises(CorruptWeightsError, match="template"):
        load_rig(RIG, template)
