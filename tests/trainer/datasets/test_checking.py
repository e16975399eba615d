import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from headlift.errors import FormatError, InvalidInputError
from headlift_trainer.datasets.checking import check
from headlift_trainer.datasets.nersemble import Nersemble
from headlift_trainer.datasets.opening import KINDS, detect_kind, open_dataset
from headlift_trainer.datasets.rig import RigDataset
from headlift_trainer.datasets.sheet import TILE, draw_samples, project


def test_every_layout_is_recognised(
    tmp_path, nersemble: SimpleNamespace, ava256: SimpleNamespace, dots: SimpleNamespace
) -> None:
    assert detect_kind(nersemble.root) == "nersemble"
    assert detect_kind(ava256.root) == "ava256"
    places = {
        "cafca": "00001/00002_000/cameras_json",
        "ffhq": "images1024x1024/00000",
        "vfhq": "train/x/Clip+x+P0+C0+F1-9",
    }
    for kind, place in places.items():
        (tmp_path / kind / place).mkdir(parents=True)
        assert detect_kind(tmp_path / kind) == kind
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "head_00001_0.npz").touch()
    assert detect_kind(tmp_path / "synthetic") == "synthetic"
    dots.write_cafca(tmp_path / "chunked" / "00000-00099")
    assert detect_kind(tmp_path / "chunked") == "cafca"


def test_another_folder_is_told(tmp_path) -> None:
    with pytest.raises(FormatError, match="none of"):
        detect_kind(tmp_path)
    with pytest.raises(FormatError, match="no folder"):
        detect_kind(tmp_path / "gone")
    with pytest.raises(InvalidInputError, match="no data set"):
        open_dataset("celeba", tmp_path)


def test_a_sound_folder_has_no_faults_and_what_is_left_out_is_counted(cafca: SimpleNamespace) -> None:
    ticks = []
    report, dataset = check(cafca.root, tick=lambda: ticks.append(1))
    assert report.kind == "cafca"
    assert report.broken == []
    assert (report.subjects, report.items, report.pictures) == (1, 1, 3)
    assert len(ticks) == 1
    assert any("rough head pose" in note for note in report.notes)
    left_out = {entry["reason"]: entry["count"] for entry in report.json()["filtered"]}
    assert left_out == {"view: back of the head (over 100 degrees from the face)": 2}
    assert len(dataset) == 1
    assert "nothing is broken" in report.text()


def test_faults_are_told_once_each_with_names(nersemble: SimpleNamespace) -> None:
    path = nersemble.root / "017" / "calibration" / "camera_params.json"
    data = json.loads(path.read_text())
    data["world_2_cam"]["222200038"] = np.array(data["world_2_cam"]["222200038"]).T.tolist()
    path.write_text(json.dumps(data))
    (nersemble.root / "018" / "sequences" / "EXP-2-eyes" / "images").mkdir(parents=True)
    report, _ = check(nersemble.root)
    text = report.text()
    assert "222200038" in text
    assert "transposed" in text
    assert "018/calibration/camera_params.json is missing" in text
    assert len(report.broken) == len(set(report.broken))
    assert str(nersemble.root) not in text  # nothing about the machine


def test_missing_masks_are_a_note_and_broken_ones_a_fault(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    masks = sorted((nersemble.root / "headlift_mattes").rglob("*.png"))
    masks[0].unlink()
    report, _ = check(nersemble.root)
    assert report.broken == []
    assert any("no masks" in note for note in report.notes)
    dots.save(masks[1], np.zeros((9, 9), np.uint8))
    report, _ = check(nersemble.root)
    assert any("mask" in fault and "(9, 9)" in fault for fault in report.broken)


def test_an_empty_data_set_is_a_fault(tmp_path) -> None:
    (tmp_path / "images1024x1024").mkdir()
    report, _ = check(tmp_path)
    assert report.broken


def test_the_sheet_shows_every_sample_with_its_targets(cafca: SimpleNamespace, tmp_path) -> None:
    _, dataset = check(cafca.root)
    out = tmp_path / "sheet.png"
    assert draw_samples(dataset, 5, out) == 1  # there is one item only
    with Image.open(out) as sheet:
        assert sheet.width == TILE * 4
        pixels = np.asarray(sheet)
    bare, drawn = pixels[:, :TILE], pixels[:, TILE : 2 * TILE]
    assert np.abs(bare[20:].astype(int) - drawn[20:]).max() > 60  # axes and box


def test_the_nose_is_where_the_sheet_projects_it(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    dots.write_pose(nersemble.root, nersemble.head_from_world, "017")
    picture, camera = RigDataset(Nersemble(nersemble.root), size=256, split="all").moment(0).picture(0)
    seen = dots.found_dots(picture[:3].permute(1, 2, 0).numpy())
    assert np.abs(project(dots.DOTS, camera) - seen).max() < 0.6


def test_the_commands_kinds_are_the_openers() -> None:
    from headlift_trainer.commands.data import KINDS as OFFERED

    assert OFFERED == KINDS
