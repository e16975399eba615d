"""The paper's protocols on any head seen from several sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headlift.model.cameras import orbit_cameras
from headlift.model.perchead.model import PercHead
from headlift.model.splat import rasterize
from headlift.model.types import Cameras
from headlift_trainer.evaluation.avatars import AvatarEvaluation, export, moved, tasks
from headlift_trainer.evaluation.folders import INPUTS, compare_folders, find_targets, write_picture
from headlift_trainer.metrics import psnr

YAWS = [0.0, 30.0, -30.0, 60.0, -60.0]


@dataclass
class Rendered:
    """A moment whose head is the grey template."""

    model: PercHead
    subject: str = "egg"

    @property
    def view_names(self) -> Sequence[str]:
        return [f"yaw{yaw:+.0f}" for yaw in YAWS]

    @property
    def cameras(self) -> Cameras:
        return orbit_cameras(YAWS, width=32, height=32)

    @property
    def viewmats(self) -> Tensor:
        return self.cameras.viewmats

    def picture(self, view: int) -> tuple[Tensor, Cameras]:
        empty = torch.zeros(1, 4, 32, 32)
        with torch.no_grad():
            head = self.model(empty[:, :3], empty[:, 3:])[0]
            views = rasterize(head, self.cameras[view])
        return torch.cat([views.rgb, views.alpha], 1)[0], self.cameras[view]


@pytest.fixture
def moment(tiny_model: PercHead) -> Rendered:
    return Rendered(tiny_model)


def test_moving_the_true_camera_gives_the_target_and_moving_keeps_the_motion() -> None:
    cameras = orbit_cameras([0, 50], [5, -10])
    assert torch.allclose(moved(cameras[0], cameras[0], cameras[1]).viewmats, cameras[1].viewmats, atol=1e-5)
    wrong = orbit_cameras([8], [2])
    found = moved(wrong, cameras[0], cameras[1])
    motion = cameras[1].viewmats @ torch.linalg.inv(cameras[0].viewmats)
    assert torch.allclose(found.viewmats @ torch.linalg.inv(wrong.viewmats), motion, atol=1e-4)
    assert torch.equal(found.Ks, cameras[1].Ks)


def test_every_pair_is_measured_once_under_its_protocol(moment: Rendered, tiny_model: PercHead) -> None:
    run = AvatarEvaluation(tiny_model)
    work = [task for protocol in ("novel", "extreme") for task in tasks([moment], protocol)]
    for task in work:
        renders = run(task)
        assert set(renders) == {pair.target for pair in task.pairs}
        assert all(render.shape == (4, 32, 32) for render in renders.values())
    assert len(run.records) == sum(len(task.pairs) for task in work)
    extreme = {(row.input_view, row.view) for row in run.records.where(group="extreme")}
    assert extreme == {("yaw+30", "yaw-30"), ("yaw-30", "yaw+30"), ("yaw+60", "yaw-60"), ("yaw-60", "yaw+60")}


def test_exported_truths_are_what_renders_are_compared_with(
    moment: Rendered, tiny_model: PercHead, tmp_path: Path
) -> None:
    run = AvatarEvaluation(tiny_model, sharpen=False)
    count = 0
    for task in tasks([moment], "extreme"):
        count += export(task, tmp_path / "truth")
        for target, render in run(task).items():
            name = f"extreme/egg/{moment.view_names[task.input]}__{moment.view_names[target]}.png"
            write_picture(tmp_path / "ours" / name, render)
    assert len(find_targets(tmp_path / "truth")) == count == 4
    assert (tmp_path / "truth" / INPUTS / "egg" / "yaw+30.png").is_file()
    found = compare_folders(tmp_path / "truth", {"ours": tmp_path / "ours"})
    direct, by_files = run.records.mean("psnr"), found.records.mean("psnr")
    assert direct == pytest.approx(by_files, abs=0.1)


def test_a_head_whose_camera_is_estimated_rightly_is_asked_for_the_true_target(
    moment: Rendered, tiny_model: PercHead
) -> None:
    class Sure(AvatarEvaluation):
        """Knows the camera and the head."""

        def _reconstruct(self, picture: Tensor, camera: Cameras):  # type: ignore[no-untyped-def]
            empty = torch.zeros(1, 4, 32, 32)
            return self.model(empty[:, :3], empty[:, 3:])[0], replace(camera)

    run = Sure(tiny_model, sharpen=False)
    task = next(tasks([moment], "extreme"))
    renders = run(task)
    for target, render in renders.items():
        assert float(psnr(render[None, :3], moment.picture(target)[0][None, :3])) > 60
