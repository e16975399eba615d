"""HeadNet's training samples are consistent: what is drawn, what is marked and what is asked belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift.model.mini.config import HeadNetConfig
from headlift.model.mini.headnet import HeadNet
from headlift.model.template import Region
from headlift.model.types import FOCAL
from headlift_trainer.device import to_device
from headlift_trainer.headnet.augment import IGNORED, backgrounds, training_sample
from headlift_trainer.headnet.data import HeadPictures, PackedHeads
from headlift_trainer.headnet.figures import figures_of, project
from headlift_trainer.headnet.landmarks import landmark_rows
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import target_path
from headlift_trainer.tasks.headnet import HeadNetTask, contrast, headnet_losses
from headlift_trainer.template.build import builtin_template

SIZE, L = 64, 8
TINY = HeadNetConfig(32, 2, 2, 2.0, L, 8, (8, 8, 16), 8)


@pytest.fixture
def heads(tmp_path: Path) -> PackedHeads:
    """Four heads whose every landmark is a dot of class 8 on a disc of class 2."""
    rng = np.random.default_rng(0)
    cameras = orbit_cameras([-30.0, 0.0, 30.0], width=SIZE, height=SIZE)
    places = 0.05 * rng.normal(size=(64, 3)).astype(np.float32)
    for seed in range(4):
        rgba = np.zeros((3, SIZE, SIZE, 4), np.uint8)
        rgba[:, 8:56, 8:56] = (200, 120, 30 * seed, 255)
        classes = np.where(rgba[..., 3] > 0, 2, 0).astype(np.uint8)
        for view in range(3):
            at, _ = project(torch.from_numpy(places[None, :1]), cameras.viewmats[view : view + 1])
            x, y = (at[0, 0] * SIZE).int().tolist()
            classes[view, y - 3 : y + 4, x - 3 : x + 4] = 8
        np.savez(
            path_of(tmp_path, seed, 0), rgba=rgba, classes=classes, viewmats=cameras.viewmats.numpy(), Ks=cameras.Ks
        )
        np.savez(target_path(tmp_path, seed), means=places.astype(np.float16))
    rows = torch.arange(L) * 8
    return PackedHeads(tmp_path, tmp_path, range(4), rows, tmp_path / "packed.npy")


def test_packed_heads_come_back_from_the_file_and_are_packed_again_when_they_change(
    heads: PackedHeads, tmp_path: Path
) -> None:
    again = PackedHeads(tmp_path, tmp_path, range(4), torch.arange(L) * 8, tmp_path / "packed.npy")
    assert (len(again), again.views, again.size) == (4, 3, SIZE)
    fewer = PackedHeads(tmp_path, tmp_path, range(2), torch.arange(L) * 8, tmp_path / "packed.npy")
    assert len(fewer) == 2
    with pytest.raises(InvalidInputError, match="run synth first"):
        PackedHeads(tmp_path, tmp_path, range(90, 95), torch.arange(L), tmp_path / "packed.npy")


def test_landmarks_and_classes_stay_together_under_crops_and_mirrors(heads: PackedHeads) -> None:
    """The patch of class 8 is drawn about landmark 0; after any augmentation it still is, mirrored as class 9."""
    generator = torch.Generator().manual_seed(0)
    found = 0
    for _ in range(6):
        given = training_sample(heads.pictures(torch.arange(4), torch.tensor([0, 1, 2, 1])), SIZE, generator)
        uv, _ = project(given.landmarks, given.viewmats)
        for i in range(4):
            for number, label in ((0, 8), (L // 2, 9)):  # mirrored heads carry landmark 0 at the mirror's place
                rows, columns = torch.nonzero(given.classes[i] == label, as_tuple=True)
                if len(rows) < 6:
                    continue
                middle = torch.stack([columns, rows], -1).float().mean(0).add(0.5) / (SIZE // 2)
                assert (middle - uv[i, number]).norm() < 0.06
                found += 1
    assert found > 8


def test_hidden_pixels_are_not_judged_and_everything_else_is_a_class(heads: PackedHeads) -> None:
    generator = torch.Generator().manual_seed(3)
    given = training_sample(
        heads.pictures(torch.arange(4).repeat(4), torch.ones(16, dtype=torch.int64)), SIZE, generator
    )
    assert ((given.classes < 19) | (given.classes == IGNORED)).all()
    assert (given.classes == IGNORED).any()
    assert given.pictures.min() >= 0
    assert given.pictures.max() <= 1


def test_backgrounds_differ_and_some_are_black() -> None:
    drawn = backgrounds(torch.rand(64, 4, 32, 32), torch.Generator().manual_seed(0))
    black = (drawn.amax((1, 2, 3)) == 0).float().mean()
    assert 0.15 < black < 0.6
    assert drawn.std(0).mean() > 0.1


def test_the_loss_falls_and_the_figures_are_those_of_the_network(heads: PackedHeads) -> None:
    torch.manual_seed(0)
    net = HeadNet(TINY, torch.arange(L))
    task, generator = HeadNetTask(net, heads, heads, 32, people=4), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss, parts = task.loss(task.draw(generator), generator)
        assert set(parts) == {"parsing", "alpha", "landmarks", "spread", "pose", "identity"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < sum(losses[:5])
    figures = figures_of(net, heads, 32, count=12)
    assert 0 < figures["miou"] < 1
    assert 0 <= figures["alpha_mae"] < 0.5
    assert task.pictures()["held_out"].shape[0] == 3


def test_identity_is_a_contest_that_equal_pairs_win() -> None:
    people = torch.tensor([0, 1, 2, 0, 1, 2])
    apart = torch.nn.functional.one_hot(people, 3).float()
    mixed = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 1, 2, 0]), 3).float()
    assert contrast(apart, people) < 0.1 < contrast(mixed, people)


def test_landmark_rows_are_mirrored_pairs_of_every_region() -> None:
    template = builtin_template()
    rows = landmark_rows(template)
    assert len(set(rows.tolist())) == 160
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(template.anchors[rows[:80]] * flip, template.anchors[rows[80:]])
    assert {Region(int(r)) for r in template.regions[rows]} == set(Region)


def test_project_puts_the_middle_of_the_head_in_the_middle_of_the_crop() -> None:
    camera = orbit_cameras([0.0, 70.0])
    from headlift.model.types import HEAD_CENTER

    at, inside = project(torch.tensor(HEAD_CENTER).expand(2, 1, 3), camera.viewmats)
    torch.testing.assert_close(at, torch.full((2, 1, 2), 0.5))
    assert inside.all()
    assert FOCAL > 1


def test_mirroring_twice_changes_nothing(heads: PackedHeads) -> None:
    from headlift_trainer.headnet.augment import _mirrored

    given = heads.pictures(torch.arange(2), torch.tensor([0, 2]))
    chosen = torch.tensor([True, True])
    twice: HeadPictures = _mirrored(_mirrored(given, chosen), chosen)
    torch.testing.assert_close(twice.rgba, given.rgba)
    torch.testing.assert_close(twice.classes, given.classes)
    torch.testing.assert_close(twice.landmarks, given.landmarks)
    torch.testing.assert_close(twice.viewmats, given.viewmats)


def test_losses_stay_on_the_batchs_device(heads: PackedHeads) -> None:
    """On meta tensors, which refuse to be mixed with the CPU's as a GPU's do."""
    meta = torch.device("meta")
    given = training_sample(heads.pictures(torch.arange(4), torch.ones(4, dtype=torch.int64)), 32, torch.Generator())
    output = to_device(HeadNet(TINY, torch.arange(L))(given.pictures), meta)
    parts = headnet_losses(output, to_device(given, meta), torch.ones(19, device=meta))
    assert {value.device for value in parts.values()} == {meta}
