import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from headlift.errors import FormatError
from headlift_trainer.datasets.nersemble import Nersemble
from headlift_trainer.datasets.rig import RigDataset


def test_dots_lie_where_the_cameras_say_in_every_view(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    dots.write_pose(nersemble.root, nersemble.head_from_world, "017")
    sample = RigDataset(Nersemble(nersemble.root), size=256, split="all").sample(0, np.random.default_rng(0), 3)
    assert len(sample.targets) == 4
    for target, camera in zip(sample.targets, (sample.target_cameras[i] for i in range(4)), strict=True):
        assert dots.worst_error(target, camera) < 0.6


def test_without_a_sidecar_the_views_still_agree_with_each_other(
    nersemble: SimpleNamespace, dots: SimpleNamespace
) -> None:
    moment = RigDataset(Nersemble(nersemble.root), size=256, split="all").moment(0)
    # The rough frame is off, but it is one frame: the truth, taken into it, must fit all views.
    there = np.linalg.inv(nersemble.head_from_world)
    world = dots.DOTS @ there[:3, :3].T + there[:3, 3]
    places = world @ moment.pose.head_from_world[:3, :3].T + moment.pose.head_from_world[:3, 3]
    assert np.abs(places - dots.DOTS).max() < 0.1
    for view in range(4):
        assert dots.worst_error(*moment.picture(view), places) < 0.6


def test_a_frame_in_the_middle_of_a_video_is_that_frame(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    dots.write_pose(nersemble.root, nersemble.head_from_world, "017")
    layout = Nersemble(nersemble.root)
    keys = layout.moments("017", 3)
    assert [key.name for key in keys] == ["EXP-1-head/0", "EXP-1-head/1", "EXP-1-head/2"]
    pictures = [layout.picture(key, "222200037").rgb.astype(int) for key in keys]
    assert np.abs(pictures[0] - pictures[2]).max() < 60  # the fixture's middle frame is the odd one
    assert np.abs(pictures[0] - pictures[1]).max() > 100


def test_evaluation_subjects_and_empty_sequences_are_never_trained_on(tmp_path) -> None:
    for name in ("059", "070", "370", "373", "374", "018"):
        for sequence in ("BACKGROUND", "EXP-2-eyes", "HAIR"):
            (tmp_path / name / "sequences" / sequence / "images").mkdir(parents=True)
    train = RigDataset(Nersemble(tmp_path), split="train")
    assert train.subjects == ["018"]
    assert [item.name for item in train.items] == ["EXP-2-eyes/0"]
    assert RigDataset(Nersemble(tmp_path), split="validation").subjects == ["059", "070", "370", "373", "374"]


def change(nersemble: SimpleNamespace, edit) -> Nersemble:
    path = nersemble.root / "017" / "calibration" / "camera_params.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    return Nersemble(nersemble.root)


def transpose_one(data) -> None:
    data["world_2_cam"]["222200038"] = np.array(data["world_2_cam"]["222200038"]).T.tolist()


def scale_one(data) -> None:
    matrix = np.array(data["world_2_cam"]["222200038"])
    matrix[0, :3] *= 1.1
    data["world_2_cam"]["222200038"] = matrix.tolist()


def mirror_one(data) -> None:
    matrix = np.array(data["world_2_cam"]["222200038"])
    matrix[0] *= -1
    data["world_2_cam"]["222200038"] = matrix.tolist()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (transpose_one, "transposed"),
        (scale_one, "no rotation"),
        (mirror_one, "no rotation"),
        (lambda d: d.pop("world_2_cam"), "lacks world_2_cam"),
        (lambda d: d.pop("intrinsics"), "lacks the matrix intrinsics"),
        (lambda d: d.update(intrinsics=np.array(d["intrinsics"]).T.tolist()), "transposed"),
        (lambda d: d["world_2_cam"].update({"222200038": [[1, 0], [0, 1]]}), "shape"),
    ],
)
def test_a_broken_calibration_is_told_by_name(nersemble: SimpleNamespace, edit, words: str) -> None:
    layout = change(nersemble, edit)
    with pytest.raises(FormatError, match=words):
        layout.cameras(layout.moments("017", 1)[0])


def test_the_audit_finds_what_does_not_fit_together(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    layout = Nersemble(nersemble.root)
    assert layout.audit("017") == []
    images = nersemble.root / "017" / "sequences" / "EXP-1-head" / "images"
    (images / "cam_221501007.mp4").write_bytes(b"no video")
    (images / "cam_222200042.mp4").unlink()
    dots.write_video(images / "cam_222200038.mp4", [np.zeros((401, 275, 3), np.uint8)])
    dots.write_video(images / "cam_999999999.mp4", [np.zeros((401, 275, 3), np.uint8)])
    found = "\n".join(layout.audit("017"))
    assert "999999999 has no calibration" in found
    assert "222200042 is calibrated but has no video" in found
    assert "cam_221501007.mp4 is missing or no readable video" in found
    assert "differ in length" in found


def test_a_video_of_another_aspect_is_refused(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    images = nersemble.root / "017" / "sequences" / "EXP-1-head" / "images"
    for path in images.glob("*.mp4"):
        dots.write_video(path, [np.zeros((400, 400, 3), np.uint8)])
    with pytest.raises(FormatError, match="aspect"):
        RigDataset(Nersemble(nersemble.root), split="all").sample(0, np.random.default_rng(0), 0)


def test_a_frame_past_the_end_is_refused(nersemble: SimpleNamespace) -> None:
    layout = Nersemble(nersemble.root)
    key = layout.moments("017", 1)[0]
    with pytest.raises(FormatError, match="shorter"):
        layout.picture(replace(key, frame=7), "222200037")
