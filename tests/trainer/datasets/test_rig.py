import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from headlift.errors import FormatError
from headlift_trainer.datasets.cropping import as_cameras
from headlift_trainer.datasets.interface import HeadDataset
from headlift_trainer.datasets.nersemble import Nersemble
from headlift_trainer.datasets.rig import RigDataset
from headlift_trainer.evaluation.avatars import Moment


@pytest.fixture
def posed(nersemble: SimpleNamespace, dots: SimpleNamespace) -> RigDataset:
    dots.write_pose(nersemble.root, nersemble.head_from_world, "017")
    return RigDataset(Nersemble(nersemble.root), size=256, split="all")


def test_a_sample_has_its_input_first_then_other_views_each_once(posed: RigDataset) -> None:
    assert isinstance(posed, HeadDataset)
    sample = posed.sample(0, np.random.default_rng(0), 2)
    assert sample.targets.shape == (3, 4, 256, 256)
    assert len(set(sample.views)) == 3
    assert sample.picture.equal(sample.targets[0])
    assert sample.camera is not None
    assert sample.target_cameras is not None
    assert sample.camera.viewmats.equal(sample.target_cameras.viewmats[:1])
    assert len(posed.sample(0, np.random.default_rng(0), 9).targets) == 4  # no more than there are


def test_the_same_seed_gives_the_same_sample_and_another_another(posed: RigDataset) -> None:
    views = [posed.sample(0, np.random.default_rng(seed), 3).views for seed in (1, 1, 2, 3, 4)]
    assert views[0] == views[1]
    assert len(set(views)) > 1


def test_it_travels_to_another_process(posed: RigDataset) -> None:
    there = pickle.loads(pickle.dumps(posed))
    rngs = np.random.default_rng(5), np.random.default_rng(5)
    assert there.sample(0, rngs[0], 1).picture.equal(posed.sample(0, rngs[1], 1).picture)


def test_a_moment_is_what_the_evaluation_reads(posed: RigDataset, dots: SimpleNamespace) -> None:
    moment: Moment = posed.moment(0)
    assert "/" not in moment.subject
    assert moment.viewmats.shape == (4, 4, 4)
    picture, camera = moment.picture(2)
    assert camera.viewmats[0].allclose(moment.viewmats[2], atol=1e-6)
    assert dots.worst_error(picture, camera) < 0.6


def test_the_sidecar_goes_before_what_the_cameras_suggest(posed: RigDataset, nersemble: SimpleNamespace) -> None:
    assert posed.moment(0).pose.source == "sidecar"
    (nersemble.root / "headlift_pose.json").unlink()
    rough = RigDataset(Nersemble(nersemble.root), split="all")
    assert rough.moment(0).pose.source == "rig"
    assert rough.moment(0).pose.rough
    with pytest.raises(FormatError, match="prepare"):
        RigDataset(Nersemble(nersemble.root), split="all", precise_only=True).moment(0)


def test_a_list_leaves_out_subjects_moments_and_views(posed: RigDataset, nersemble: SimpleNamespace) -> None:
    def listed(text: str) -> RigDataset:
        (nersemble.root / "headlift_exclude.txt").write_text(text)
        return RigDataset(Nersemble(nersemble.root), split="all")

    assert len(listed("# a comment\n017 wore a mask\n")) == 0
    found = listed("017/EXP-1-head/0 hand before the face\n")
    assert len(found) == 0
    assert found.filtered.reasons["headlift_exclude.txt: hand before the face"] == 1
    assert "222200037" not in listed("017/EXP-1-head/0/222200037\n").moment(0).view_names


def test_pictures_without_a_mask_are_refused_unless_a_matter_is_given(
    posed: RigDataset, nersemble: SimpleNamespace
) -> None:
    class Half:
        def matte(self, rgb: np.ndarray, face_box: tuple[float, float, float, float]) -> np.ndarray:
            assert rgb.shape == (64, 64, 3)
            assert face_box[0] < 32 < face_box[2]
            return np.full(rgb.shape[:2], 0.5, np.float32)

    for path in (nersemble.root / "headlift_mattes").rglob("*.png"):
        path.unlink()
    with pytest.raises(FormatError, match="no mask"):
        posed.sample(0, np.random.default_rng(0), 0)
    given = RigDataset(Nersemble(nersemble.root), size=64, split="all", matter=Half())
    assert given.sample(0, np.random.default_rng(0), 0).picture[3].max() == pytest.approx(0.5)


def test_masks_of_another_size_are_refused(
    posed: RigDataset, nersemble: SimpleNamespace, dots: SimpleNamespace
) -> None:
    for path in (nersemble.root / "headlift_mattes").rglob("*.png"):
        dots.save(path, np.full((100, 100), 255, np.uint8))
    with pytest.raises(FormatError, match="mask"):
        posed.sample(0, np.random.default_rng(0), 0)


def test_crop_cameras_are_upright_and_look_at_the_head(posed: RigDataset) -> None:
    moment = posed.moment(0)
    for view in range(4):
        _, viewmat, K = moment.crop(view)
        cameras = as_cameras(viewmat[None], K[None], 256)
        center = viewmat[:3, :3] @ np.array([0.0, 0.01, 0.0]) + viewmat[:3, 3]
        assert np.abs(center[:2]).max() < 1e-6
        assert viewmat[0, 1] == pytest.approx(0.0, abs=1e-6)  # the head's up is up in the picture
        assert cameras.Ks[0, 0, 2] == 128
