import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.mini.config import HeadNetConfig
from headlift.model.mini.headnet import HeadNet
from headlift_trainer.datasets.interface import LandmarkDetector, Landmarks
from headlift_trainer.datasets.landmarks import FittedCamera
from headlift_trainer.datasets.nersemble import Nersemble
from headlift_trainer.datasets.poses import read_poses
from headlift_trainer.datasets.prepare import Preparation, framing_camera, solve_moment, solve_picture
from headlift_trainer.datasets.reader import HeadNetReader
from headlift_trainer.datasets.rig import RigDataset


class DotDetector:
    """Sees coloured dots, for heads that are nothing else."""

    def __init__(self, dots: SimpleNamespace) -> None:
        self._dots = dots

    @property
    def canonical(self) -> np.ndarray:
        return self._dots.DOTS

    def detect(self, rgb: np.ndarray) -> Landmarks | None:
        points = self._dots.found_dots(rgb / 255)
        seen = np.isfinite(points).all(1)
        return Landmarks(points, np.where(seen, 0.5, np.inf)) if seen.sum() >= 3 else None


def test_landmarks_of_all_views_mend_a_rough_head_pose(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    detector = DotDetector(dots)
    assert isinstance(detector, LandmarkDetector)
    moment = RigDataset(Nersemble(nersemble.root), size=256, split="all").moment(0)
    assert moment.pose.rough
    off = np.abs(moment.pose.head_from_world - nersemble.head_from_world).max()
    found = solve_moment(moment, detector)
    assert not found.rough
    assert found.rms_m is not None
    assert found.rms_m < 0.001
    assert np.abs(found.head_from_world - nersemble.head_from_world).max() < min(0.01, off / 5)


def test_views_in_which_nothing_is_seen_are_told(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    class Blind(DotDetector):
        def detect(self, rgb: np.ndarray) -> Landmarks | None:
            return None

    moment = RigDataset(Nersemble(nersemble.root), size=64, split="all").moment(0)
    with pytest.raises(InvalidInputError, match="0 views"):
        solve_moment(moment, Blind(dots))


def test_landmarks_mend_the_camera_of_an_aligned_portrait(dots: SimpleNamespace) -> None:
    viewmat, K = dots.camera_at(25, 3, 1.706), framing_camera(512, 512).K
    rgb = dots.dotted(dots.projected(dots.DOTS, viewmat, K), 512, 512, 8)
    found = solve_picture(rgb, framing_camera(512, 512), DotDetector(dots))
    assert isinstance(found, FittedCamera)
    seen, wanted = (dots.projected(dots.DOTS, m, k) for m, k in ((found.viewmat, found.K), (viewmat, K)))
    assert np.abs(seen - wanted).max() < 6
    assert np.abs(found.viewmat[:3, :3] - viewmat[:3, :3]).max() < 0.06


def test_the_framing_is_that_of_aligned_portraits(dots: SimpleNamespace) -> None:
    camera = framing_camera(1024, 1024)
    eyes = dots.projected(np.array([[-0.0315, 0.028, 0.045], [0.0315, 0.028, 0.045]]), camera.viewmat, camera.K)
    assert eyes[1, 0] - eyes[0, 0] == pytest.approx(256, rel=0.01)  # a quarter of the side
    assert 440 < eyes[:, 1].mean() < 512


@pytest.fixture
def headnet() -> HeadNet:
    torch.manual_seed(0)
    config = HeadNetConfig(dim=32, depth=1, num_heads=2, stem=(8, 8, 16), neck=8, landmarks=12, identity_dim=8)
    return HeadNet(config, torch.arange(12) * 4000).eval()


def test_headnet_is_a_detector_and_a_matter(headnet: HeadNet) -> None:
    reader = HeadNetReader(headnet)
    assert isinstance(reader, LandmarkDetector)
    assert reader.canonical.shape == (12, 3)
    rgb = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    matte = reader.matte(rgb, (0, 0, 1, 1))
    assert matte.shape == (300, 300)
    assert 0 <= matte.min() <= matte.max() <= 1


def test_masks_are_laid_back_and_made_once(nersemble: SimpleNamespace, headnet: HeadNet, dots) -> None:
    dots.write_pose(nersemble.root, nersemble.head_from_world, "017")
    masks = nersemble.root / "headlift_mattes"
    for path in masks.rglob("*.png"):
        path.unlink()
    work = Preparation(nersemble.root, "nersemble", headnet)
    assert list(work.run()) == ["017/EXP-1-head/0"]
    assert (work.poses, work.masks, work.failed) == (0, 4, [])
    sample = RigDataset(Nersemble(nersemble.root), size=64, split="all").sample(0, np.random.default_rng(0), 0)
    assert 0 < float(sample.picture[3, 32, 32]) < 1  # the untrained network's doubt
    again = Preparation(nersemble.root, "nersemble", headnet)
    list(again.run())
    assert (again.poses, again.masks) == (0, 0)


def test_what_fails_is_told_and_the_rest_goes_on(nersemble: SimpleNamespace, headnet: HeadNet) -> None:
    work = Preparation(nersemble.root, "nersemble", headnet)  # untrained landmarks are no head
    list(work.run())
    assert work.poses == 0
    assert len(work.failed) == 1
    assert "017/EXP-1-head/0" in work.failed[0]
    assert not (nersemble.root / "headlift_pose.json").exists()


def test_the_sidecar_survives_a_round_trip(nersemble: SimpleNamespace, dots: SimpleNamespace) -> None:
    dots.write_pose(nersemble.root, nersemble.head_from_world, "017")
    book = read_poses(nersemble.root)
    book.pictures["x"] = FittedCamera(dots.camera_at(10, 0, 1.706), np.diag([500.0, 500, 1]), 0.002)
    book.write(nersemble.root)
    back = read_poses(nersemble.root)
    assert np.allclose(back.moments["017"].head_from_world, nersemble.head_from_world)
    assert np.allclose(back.pictures["x"].viewmat, book.pictures["x"].viewmat)
    path = nersemble.root / "headlift_pose.json"
    path.write_text(json.dumps({"format": "other"}))
    from headlift.errors import FormatError

    with pytest.raises(FormatError, match="format"):
        read_poses(nersemble.root)


def test_generated_heads_need_nothing(tmp_path, headnet: HeadNet) -> None:
    with pytest.raises(InvalidInputError, match="nothing to prepare"):
        Preparation(tmp_path, "synthetic", headnet)


def test_pictures_whose_parsing_shows_no_face_are_listed_as_occluded(
    tmp_path, headnet: HeadNet, dots: SimpleNamespace
) -> None:
    viewmat, K = dots.camera_at(0, 0, 1.706), framing_camera(256, 256).K
    dots.save(tmp_path / "images1024x1024" / "00000" / "00007.png", dots.dotted(np.full((6, 2), 9.0), 256, 256, 3))
    entry = {"00007": {"viewmat": viewmat.tolist(), "K": K.tolist()}}
    (tmp_path / "headlift_pose.json").write_text(json.dumps({"format": "headlift-pose-1", "pictures": entry}))
    with torch.no_grad():
        headnet.dense.classes.weight.zero_()
        headnet.dense.classes.bias.zero_()
        headnet.dense.classes.bias[:4] = 5.0  # pixel shuffle: class 0 of all four pixels
    work = Preparation(tmp_path, "ffhq", headnet, masks=False)
    list(work.run())
    assert work.occluded == 1
    assert (tmp_path / "headlift_exclude.txt").read_text() == "00007 occluded\n"
