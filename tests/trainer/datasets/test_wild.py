import json
from types import SimpleNamespace

import numpy as np
import pytest

from headlift.errors import FormatError
from headlift_trainer.datasets.ffhq import Ffhq
from headlift_trainer.datasets.interface import HeadDataset
from headlift_trainer.datasets.landmarks import FIVE_PLACES, IBUG_PLACES
from headlift_trainer.datasets.vfhq import Vfhq
from headlift_trainer.datasets.wild import WildDataset

SIDE = 512


class Everything:
    def matte(self, rgb: np.ndarray, face_box: tuple[float, float, float, float]) -> np.ndarray:
        return np.ones(rgb.shape[:2], np.float32)


def shot(dots: SimpleNamespace, yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """View matrix and K of an aligned portrait at the portrait crop's distance."""
    return dots.camera_at(yaw, 4, 1.706, turn_deg=(0, 0, 6)), np.array([[3300.0, 0, 250], [0, 3300, 262], [0, 0, 1]])


@pytest.fixture
def ffhq(tmp_path, dots: SimpleNamespace):
    """Four pictures of dots with exact landmarks; the third is hidden by a hand, the fourth kept for validation."""
    index = {}
    for number, yaw in ((42, 10), (43, -35), (1044, 20), (60_001, 0)):
        viewmat, K = shot(dots, yaw)
        name = f"{number:05d}"
        path = tmp_path / "images1024x1024" / f"{number // 1000 * 1000:05d}" / f"{name}.png"
        dots.save(path, dots.dotted(dots.projected(dots.DOTS, viewmat, K), SIDE, SIDE, 6))
        points = np.zeros((68, 2))
        points[list(IBUG_PLACES)] = dots.projected(np.array(list(IBUG_PLACES.values())), viewmat, K)
        index[str(number)] = {"image": {"face_landmarks": points.tolist()}}
    (tmp_path / "ffhq-dataset-v2.json").write_text(json.dumps(index))
    (tmp_path / "json").mkdir()
    features = [{"faceAttributes": {"occlusion": {"foreheadOccluded": False, "mouthOccluded": True}}}]
    (tmp_path / "json" / "01044.json").write_text(json.dumps(features))
    return tmp_path


def test_dots_lie_where_the_fitted_cameras_say(ffhq, dots: SimpleNamespace) -> None:
    dataset = WildDataset(Ffhq(ffhq), size=256, matter=Everything())
    assert isinstance(dataset, HeadDataset)
    assert [item.key for item in dataset.items] == ["00042", "00043"]
    for index in range(2):
        sample = dataset.sample(index, np.random.default_rng(0), 3)
        assert len(sample.targets) == 1
        assert sample.camera is not None
        assert (
            dots.worst_error(sample.picture, sample.camera) < 3.0
        )  # the prior that portraits are level costs a little


def test_the_sidecars_camera_is_exact(ffhq, dots: SimpleNamespace) -> None:
    viewmat, K = shot(dots, -35)
    entry = {"00043": {"viewmat": viewmat.tolist(), "K": K.tolist(), "rms_m": 0.0}}
    (ffhq / "headlift_pose.json").write_text(json.dumps({"format": "headlift-pose-1", "pictures": entry}))
    (ffhq / "headlift_subset.txt").write_text("00043\n")
    sample = WildDataset(Ffhq(ffhq), size=256, matter=Everything()).sample(0, np.random.default_rng(0), 0)
    assert sample.subject == "00043"
    assert dots.worst_error(sample.picture, sample.camera) < 0.5


def test_what_is_left_out_is_counted_with_its_reason(ffhq) -> None:
    (ffhq / "headlift_exclude.txt").write_text("00043 sunglasses\n")
    dataset = WildDataset(Ffhq(ffhq), limit=None)
    assert [item.key for item in dataset.items] == ["00042"]
    assert dict(dataset.filtered.reasons) == {
        "headlift_exclude.txt: sunglasses": 1,
        "occluded mouth": 1,
        "subject not in the train split": 1,
    }
    assert [item.key for item in WildDataset(Ffhq(ffhq), split="validation").items] == ["60001"]


def test_a_picture_whose_camera_nothing_tells_is_left_out(ffhq) -> None:
    (ffhq / "ffhq-dataset-v2.json").unlink()
    dataset = WildDataset(Ffhq(ffhq))
    assert len(dataset) == 0
    assert dataset.filtered.reasons["no camera: neither landmarks nor headlift_pose.json"] == 3


def test_landmarks_of_no_face_are_refused(ffhq) -> None:
    path = ffhq / "ffhq-dataset-v2.json"
    index = json.loads(path.read_text())
    index["42"]["image"]["face_landmarks"] = np.random.default_rng(0).uniform(0, SIDE, (68, 2)).tolist()
    path.write_text(json.dumps(index))
    with pytest.raises(FormatError, match="off a head"):
        WildDataset(Ffhq(ffhq), matter=Everything()).sample(0, np.random.default_rng(0), 0)


def test_the_subset_is_the_same_whichever_pictures_are_there(tmp_path) -> None:
    folder = tmp_path / "images1024x1024" / "00000"
    folder.mkdir(parents=True)
    index = {}
    for number in range(300):
        (folder / f"{number:05d}.png").touch()
        index[str(number)] = {"image": {"face_landmarks": np.zeros((68, 2)).tolist()}}
    (tmp_path / "ffhq-dataset-v2.json").write_text(json.dumps(index))
    chosen = [item.key for item in WildDataset(Ffhq(tmp_path), limit=50).items]
    assert len(chosen) == 50
    gone = next(f"{n:05d}" for n in range(300) if f"{n:05d}" not in chosen)
    (folder / f"{gone}.png").unlink()
    assert [item.key for item in WildDataset(Ffhq(tmp_path), limit=50).items] == chosen


def test_masks_beside_the_data_are_the_alpha(ffhq, dots: SimpleNamespace) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, SIDE // 2 :] = 255
    dots.save(ffhq / "headlift_mattes" / "00042.png", mask)
    dataset = WildDataset(Ffhq(ffhq), size=128)
    picture = dataset.sample(0, np.random.default_rng(0), 0).picture
    assert picture[3, 64, 100] == 1
    assert picture[:, 64, 20].max() == 0
    with pytest.raises(FormatError, match="no mask"):
        dataset.sample(1, np.random.default_rng(0), 0)


@pytest.fixture
def vfhq(tmp_path, dots: SimpleNamespace):
    """A clip of six pictures cropped from a video at (100, 40), below a folder of its video."""
    viewmat, K = shot(dots, 25)
    name = "Clip+abc-D_e+P2+C1+F300-320"
    origin = np.array([100, 40])
    pupils = dots.projected(np.array(FIVE_PLACES), viewmat, K)
    lines = ["Video ID: abc-D_e", "FPS: 25.0", "", "FRAME INDEX X0 Y0 W H [Landmarks (5 Points)]", ""]
    for k in range(6):
        shift = np.array([2.0 * k, 0])
        picture = dots.dotted(dots.projected(dots.DOTS, viewmat, K) + shift, SIDE, SIDE, 6)
        dots.save(tmp_path / "abc-D_e" / name / f"{k + 1:08d}.png", picture)
        points = " ".join(f"{v:.3f}" for v in (pupils + shift + origin).ravel())
        lines.append(f"{301 + k} 00000001 1 2 3 4 {points}")
    lines.append("CROP 100 40 612 552")
    (tmp_path / "meta_info").mkdir()
    (tmp_path / "meta_info" / f"{name}.txt").write_text("\n".join(lines))
    return tmp_path


def test_vfhq_dots_lie_where_the_fitted_cameras_say_frame_by_frame(vfhq, dots: SimpleNamespace) -> None:
    dataset = WildDataset(Vfhq(vfhq, frames_per_clip=3), size=256, split="all", matter=Everything())
    assert [item.key.rpartition("/")[2] for item in dataset.items] == ["00000002", "00000004", "00000006"]
    assert dataset.subjects == ["abc-D_e+P2"]
    for index in range(3):
        picture, camera = dataset.crop(index)
        # Five landmarks, four of them nearly in a plane, leave some doubt; a wrong frame or crop is far more off.
        assert dots.worst_error(picture, camera) < 6.0


def test_vfhq_without_its_meta_file_has_no_cameras(vfhq) -> None:
    next((vfhq / "meta_info").glob("*.txt")).unlink()
    assert len(WildDataset(Vfhq(vfhq), split="all")) == 0
