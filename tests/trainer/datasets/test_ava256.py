import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import features

from headlift.errors import FormatError
from headlift_trainer.datasets.ava256 import Ava256
from headlift_trainer.datasets.rig import RigDataset
from headlift_trainer.datasets.subjects import AVA256_SUBJECTS

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF encoder")


def decoder(ava256: SimpleNamespace):
    return next(ava256.root.glob("m--*")) / "decoder"


def test_dots_lie_where_the_cameras_say_in_every_view(ava256: SimpleNamespace, dots: SimpleNamespace) -> None:
    key = f"{dots.AVA_SUBJECT}/EXP_neutral_peak/000123"
    dots.write_pose(ava256.root, ava256.head_from_world, key)
    dataset = RigDataset(Ava256(ava256.root), size=256, split="all")
    assert dataset.items[0].key == key
    sample = dataset.sample(0, np.random.default_rng(0), 3)
    assert len(sample.targets) == 4
    for i, target in enumerate(sample.targets):
        assert dots.worst_error(target, sample.target_cameras[i]) < 0.7


def test_the_tracked_pose_and_key_points_give_the_head_frame(ava256: SimpleNamespace, dots: SimpleNamespace) -> None:
    dots.write_keypoints(ava256)
    pose = RigDataset(Ava256(ava256.root), split="all").moment(0).pose
    assert pose.source == "tracked"
    # Axes exactly, however they point in the tracked frame; the origin as far as the key points tell.
    assert np.allclose(pose.head_from_world[:3, :3], ava256.head_from_world[:3, :3], atol=1e-9)
    assert np.abs(pose.head_from_world @ np.linalg.inv(ava256.head_from_world) - np.eye(4)).max() < 0.02


def test_without_key_points_the_views_still_agree_with_each_other(
    ava256: SimpleNamespace, dots: SimpleNamespace
) -> None:
    moment = RigDataset(Ava256(ava256.root), size=256, split="all").moment(0)
    assert moment.pose.rough
    shift = moment.pose.head_from_world @ np.linalg.inv(ava256.head_from_world)
    assert np.allclose(shift[:3, :3], np.eye(3), atol=1e-6)
    for view in range(4):
        assert dots.worst_error(*moment.picture(view), dots.DOTS + shift[:3, 3]) < 0.7


def test_the_chair_is_no_part_of_the_person(ava256: SimpleNamespace) -> None:
    layout = Ava256(ava256.root)
    matte = layout.picture(layout.moments(layout.subjects()[0], 1)[0], "400943").matte
    assert matte is not None
    assert matte[:-60].min() == 1
    assert matte[-60:].max() == 0


def test_the_papers_subjects_are_held_out_and_both_ways_to_name_folders_are_read(tmp_path) -> None:
    for name in (f"m--{AVA256_SUBJECTS[0]}--GHS", AVA256_SUBJECTS[1], "m--20210810--1306--FXN596--GHS", "notes"):
        (tmp_path / name / "decoder").mkdir(parents=True)
    assert RigDataset(Ava256(tmp_path), split="train").subjects == ["20210810--1306--FXN596"]
    assert RigDataset(Ava256(tmp_path), split="validation").subjects == sorted(AVA256_SUBJECTS[:2])


def test_segments_with_hands_are_not_taken(ava256: SimpleNamespace) -> None:
    layout = Ava256(ava256.root)
    assert {key.frame for key in layout.moments(layout.subjects()[0], 99)} == {123}


def test_matrices_that_do_not_lie_transposed_are_told(ava256: SimpleNamespace) -> None:
    path = decoder(ava256) / "camera_calibration.json"
    data = json.loads(path.read_text())
    layout = Ava256(ava256.root)
    key = layout.moments(layout.subjects()[0], 1)[0]
    for name in ("K", "T"):
        broken = json.loads(json.dumps(data))
        broken["KRT"][1][name] = np.array(broken["KRT"][1][name]).T.tolist()
        path.write_text(json.dumps(broken))
        with pytest.raises(FormatError, match="transposed"):
            layout.cameras(key)
    path.write_text("{}")
    with pytest.raises(FormatError, match="lacks KRT"):
        layout.cameras(key)


def test_the_audit_finds_missing_cameras_frames_and_damaged_archives(ava256: SimpleNamespace) -> None:
    layout = Ava256(ava256.root)
    subject = layout.subjects()[0]
    folder = decoder(ava256)
    found = "\n".join(layout.audit(subject))
    assert "lacks 1 of 2 frames" in found  # the fixture has no pictures of the second frame
    (folder / "frame_list.csv").write_text("seg_id,frame_id\nEXP_neutral_peak,123\n")
    assert Ava256(ava256.root).audit(subject) == []
    (folder / "image" / "cam401031.zip").write_bytes(b"PK no more")
    (folder / "image" / "cam400943.zip").unlink()
    with zipfile.ZipFile(folder / "image" / "cam111111.zip", "w") as archive:
        archive.writestr("000123.avif", b"")
    found = "\n".join(layout.audit(subject))
    assert "111111 has no calibration" in found
    assert "400943 is calibrated but has no pictures" in found
    assert "cam401031.zip is missing or no readable zip" in found


def test_a_picture_that_is_none_is_told(ava256: SimpleNamespace) -> None:
    layout = Ava256(ava256.root)
    key = layout.moments(layout.subjects()[0], 1)[0]
    with zipfile.ZipFile(decoder(ava256) / "image" / "cam400943.zip", "w") as archive:
        archive.writestr("000123.avif", b"no picture")
    with pytest.raises(FormatError, match="no readable picture"):
        layout.picture(key, "400943")
    with zipfile.ZipFile(decoder(ava256) / "image" / "cam400943.zip", "w") as archive:
        archive.writestr("000124.avif", b"another")
    with pytest.raises(FormatError, match=r"lacks 000123\.avif"):
        layout.picture(key, "400943")
