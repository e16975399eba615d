"""Posed portraits come back from disk, and the command says which subjects are missing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headlift.errors import FormatError, NotFoundError
from headlift.model.cameras import orbit_cameras
from headlift.model.types import Cameras
from headlift_trainer.commands.eval import register
from headlift_trainer.datasets.subjects import NERSEMBLE_SUBJECTS
from headlift_trainer.evaluation.real import open_source, read_moment, write_moment

YAWS = [0.0, 40.0, -40.0]


@dataclass
class Noise:
    """A moment of random pictures."""

    subject: str

    @property
    def view_names(self) -> Sequence[str]:
        return ["front", "left", "right"]

    @property
    def viewmats(self) -> Tensor:
        return orbit_cameras(YAWS).viewmats

    def picture(self, view: int) -> tuple[Tensor, Cameras]:
        picture = torch.rand(4, 24, 24, generator=torch.Generator().manual_seed(view))
        picture[3] = (picture[3] > 0.3).float()
        return torch.cat([picture[:3] * picture[3:], picture[3:]]), orbit_cameras(YAWS, width=24, height=24)[view]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subject in ("059_smile", "370_neutral", "500_unasked"):
        write_moment(tmp_path, Noise(subject))
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "NeRSemble", "subjects": "nersemble"}))
    return tmp_path


def test_a_moment_comes_back_as_it_was_written(folder: Path) -> None:
    moment, truth = read_moment(folder / "059_smile", 24), Noise("059_smile")
    assert list(moment.view_names) == list(truth.view_names)
    assert torch.allclose(moment.viewmats, truth.viewmats)
    picture, camera = moment.picture(1)
    assert torch.allclose(picture, truth.picture(1)[0], atol=0.01)
    assert torch.allclose(camera.Ks, truth.picture(1)[1].Ks)


def test_crops_are_brought_to_the_size_asked_for_with_their_cameras(folder: Path) -> None:
    picture, camera = read_moment(folder / "059_smile", 48).picture(0)
    assert picture.shape == (4, 48, 48)
    assert camera.width == 48
    assert torch.allclose(camera.Ks[0, :2], 2 * Noise("").picture(0)[1].Ks[0, :2])


def test_only_the_protocols_subjects_are_taken_and_the_missing_named(folder: Path) -> None:
    source = open_source(folder, 24)
    assert source.found == ["059", "370"]
    assert source.missing == [s for s in NERSEMBLE_SUBJECTS if s not in source.found]
    assert [moment.subject for moment in source.moments] == ["059_smile", "370_neutral"]
    assert source.vertical
    assert source.published[-1].label == "PercHead"


def test_faulty_folders_are_refused(folder: Path) -> None:
    with pytest.raises(NotFoundError, match=r"dataset\.json"):
        open_source(folder / "nothing", 24)
    (folder / "059_smile" / "cameras.json").write_text('{"front": {"viewmat": [1]}}')
    with pytest.raises(FormatError, match="viewmat and a K"):
        open_source(folder, 24)
    (folder / "dataset.json").write_text('{"subjects": "all"}')
    with pytest.raises(FormatError, match="'all'"):
        open_source(folder, 24)


def test_the_command_measures_both_protocols_and_names_missing_subjects(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    page, truths = tmp_path / "out" / "page.html", tmp_path / "out" / "truths"
    words = ["eval", "avatars", "--data", folder, "--weights", tiny_checkpoint, "--size", "24", "--report", page]
    args = parser.parse_args([str(word) for word in (*words, "--export", truths, "--json")])
    assert args.run(args) == 0
    found = json.loads(capsys.readouterr().out)["datasets"]["NeRSemble"]
    assert found["missing_subjects"] == ["070", "373", "374"]
    assert found["views"] == len(list(truths.glob("novel/*/*.png"))) + len(list(truths.glob("extreme/*/*.png"))) > 0
    assert found["table"]["rows"][0]["label"] == "ours"
    assert "PercHead (published)" in page.read_text()
    assert "not found: 070, 373, 374" in page.read_text()
