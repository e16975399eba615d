import json
from types import SimpleNamespace

import numpy as np
import pytest

from headlift.errors import FormatError
from headlift_trainer.datasets.cafca import Cafca
from headlift_trainer.datasets.rig import RigDataset


def test_dots_lie_where_the_cameras_say_and_masks_are_alpha(cafca: SimpleNamespace, dots: SimpleNamespace) -> None:
    dataset = RigDataset(Cafca(cafca.root), size=256, split="all")
    assert dataset.moment(0).view_names == ("C00", "C01", "C02")
    sample = dataset.sample(0, np.random.default_rng(0), 5)
    for i, target in enumerate(sample.targets):
        assert dots.worst_error(target, sample.target_cameras[i]) < 0.6
    front = sample.targets[sample.views.index("C00"), 3]
    assert front[:, :15].max() == 0  # where the mask is empty
    assert front[:, 19:].min() == 1


def test_backs_of_heads_are_dropped_as_inputs_and_as_targets(cafca: SimpleNamespace) -> None:
    every = RigDataset(Cafca(cafca.root), split="all", furthest_deg=180.0).moment(0).view_names
    assert every == ("C00", "C01", "C02", "C03", "C04")
    kept = RigDataset(Cafca(cafca.root), split="all", furthest_deg=50.0).moment(0).view_names
    assert kept == ("C00",)


def test_views_without_a_face_by_the_published_landmarks_are_dropped(cafca: SimpleNamespace) -> None:
    folder = cafca.root / "00012" / "00001_002" / "landmark2d" / "STAR"
    folder.mkdir(parents=True)
    np.savez(folder / "C00.npz", face_landmark_2d=np.full((1, 68, 3), 0.4))
    np.savez(folder / "C01.npz", face_landmark_2d=np.full((1, 68, 3), -1.0))
    dataset = RigDataset(Cafca(cafca.root), split="all")
    assert dataset.moment(0).view_names == ("C00",)


def test_a_fitted_flame_mesh_gives_the_head_frame(tmp_path, dots: SimpleNamespace) -> None:
    head_from_world = dots.similarity(0.8, (15, 40, -10), (0.2, 0.05, -0.1))
    rig = dots.write_cafca(tmp_path / "00000-00099", head_from_world=head_from_world)
    neutral = np.random.default_rng(0).normal(0, 0.06, (500, 3))
    speaking = neutral.copy()
    speaking[:60] += (0.0, -0.02, 0.01)  # the jaw
    there = np.linalg.inv(head_from_world)
    world = speaking @ there[:3, :3].T + there[:3, 3]
    mesh = rig.root / "00012" / "flame_2023_002" / "eval_100" / "mesh" / "frame_00001.obj"
    mesh.parent.mkdir(parents=True)
    mesh.write_text("".join(f"v {x:.7f} {y:.7f} {z:.7f}\n" for x, y, z in world) + "f 1 2 3\n")
    dataset = RigDataset(Cafca(tmp_path, flame=neutral), size=256, split="all")
    moment = dataset.moment(0)
    assert moment.pose.source == "tracked"
    assert np.abs(moment.pose.head_from_world - head_from_world).max() < 2e-3
    assert dots.worst_error(*moment.picture(0)) < 2.0
    assert RigDataset(Cafca(tmp_path), split="all").moment(0).pose.rough


def test_the_segmentation_is_the_mask_where_there_is_no_other(cafca: SimpleNamespace) -> None:
    layout = Cafca(cafca.root)
    key = layout.moments("00012", 1)[0]
    whole = layout.picture(key, "C00").matte
    for path in cafca.root.rglob("foreground_mask/*.png"):
        path.unlink()
    assert np.array_equal(layout.picture(key, "C00").matte, whole)


def test_which_moment_is_taken_depends_on_the_subject_alone(tmp_path) -> None:
    for subject in range(40):
        for moment in range(13):
            (tmp_path / f"{subject:05d}" / f"{moment:05d}_{moment % 3:03d}").mkdir(parents=True)
    layout = Cafca(tmp_path)
    names = [layout.moments(subject, 1)[0].name for subject in layout.subjects()]
    assert len(set(names)) > 6
    assert names == [Cafca(tmp_path).moments(subject, 1)[0].name for subject in layout.subjects()]
    assert len({key.key for key in layout.moments("00003", 13)}) == 13


def test_broken_cameras_are_told_by_name(cafca: SimpleNamespace) -> None:
    path = cafca.root / "00012" / "00001_002" / "cameras_json" / "C02.json"
    data = json.loads(path.read_text())
    layout = Cafca(cafca.root)
    key = layout.moments("00012", 1)[0]
    for broken, words in (
        (data | {"world2cam": np.array(data["world2cam"]).T.tolist()}, "transposed"),
        (data | {"K": np.array(data["K"]).T.tolist()}, "transposed"),
        ({"K": data["K"]}, "lacks the matrix world2cam"),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(FormatError, match=words) as raised:
            layout.cameras(key)
        assert "C02" in raised.value.message
    path.write_text("{")
    with pytest.raises(FormatError, match="not JSON"):
        layout.cameras(key)


def test_the_audit_finds_missing_pictures_masks_and_cameras(cafca: SimpleNamespace) -> None:
    layout = Cafca(cafca.root)
    assert layout.audit("00012") == []
    folder = cafca.root / "00012" / "00001_002"
    (folder / "color_image" / "C01.png").unlink()
    (folder / "cameras_json" / "C02.json").unlink()
    (folder / "foreground_mask" / "C03.png").unlink()
    (folder / "segmentation" / "C03.png").unlink()
    found = "\n".join(layout.audit("00012"))
    assert "no picture for C01" in found
    assert "no calibration for C02" in found
    assert "no mask for C03" in found
