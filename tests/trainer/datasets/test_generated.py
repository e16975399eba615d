from types import SimpleNamespace

import numpy as np
import pytest
import torch

from headlift.errors import FormatError
from headlift.model.cameras import orbit_cameras
from headlift_trainer.datasets.generated import GeneratedHeads
from headlift_trainer.datasets.opening import SOURCE_OPENERS, DatasetSource, open_pair


@pytest.fixture
def shards(tmp_path, dots: SimpleNamespace):
    """Two geometries, one of them held out, in the generator's format: dots seen from four sides."""
    cameras = orbit_cameras([0, 60, -110, 175], [5, 0, -10, 0], width=128, height=128)
    viewmats, Ks = cameras.viewmats.numpy().copy(), cameras.Ks.numpy().copy()
    Ks[:, 0, 2] += 4  # the generator shifts some crops by their principal point
    pictures = []
    for viewmat, K in zip(viewmats.astype(float), Ks.astype(float), strict=True):
        rgb = dots.dotted(dots.projected(dots.DOTS, viewmat, K), 128, 128, 3)
        pictures.append(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]))
    for seed in (7, 1234):
        np.savez(tmp_path / f"head_{seed:05d}_0.npz", rgba=np.stack(pictures), viewmats=viewmats, Ks=Ks)
    return tmp_path


def test_generated_heads_are_a_data_set_like_others(shards, dots: SimpleNamespace) -> None:
    dataset = GeneratedHeads(shards)
    assert dataset.subjects == ["01234"]
    assert GeneratedHeads(shards, split="validation").subjects == ["00007"]
    for seed in range(5):
        sample = dataset.sample(0, np.random.default_rng(seed), 3)
        assert sample.views[0] in ("view00", "view01")  # an input shows the face
        assert len(set(sample.views)) == 4
        for i, target in enumerate(sample.targets):
            # A shift of the principal point is told as a turn of the camera, which is exact in the middle only.
            if sample.views[i] in ("view00", "view01"):
                assert dots.worst_error(target, sample.target_cameras[i]) < 1.0


def test_pictures_are_brought_to_the_size_asked_for(shards) -> None:
    sample = GeneratedHeads(shards, size=64).sample(0, np.random.default_rng(0), 1)
    assert sample.targets.shape == (2, 4, 64, 64)
    assert sample.target_cameras is not None
    assert sample.target_cameras.Ks[0, 0, 2] == 32


def test_a_damaged_shard_is_told(shards) -> None:
    (shards / "head_01234_0.npz").write_bytes(b"gone")
    with pytest.raises(FormatError, match="damaged"):
        GeneratedHeads(shards).sample(0, np.random.default_rng(0), 1)


def test_the_trainers_loop_draws_from_any_data_set(shards) -> None:
    train, held_out = open_pair("synthetic", shards, size=64)
    assert isinstance(train, DatasetSource)
    one, same = (train.sample(torch.Generator().manual_seed(3), 2) for _ in range(2))
    assert one.targets.equal(same.targets)
    assert one.targets.shape == (3, 4, 64, 64)
    assert len(one.camera) == 1
    assert len(one.target_cameras) == 3
    assert len(held_out) == 1
    as_they_are, _ = SOURCE_OPENERS["generated"](shards)
    assert as_they_are.sample(torch.Generator().manual_seed(3), 2).targets.shape == (3, 4, 128, 128)
