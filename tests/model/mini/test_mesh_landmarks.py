"""A face mesh beside HeadNet's landmarks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError
from headlift.model.cameras import FRONTAL_POSE, orbit_cameras, pose_from_cameras
from headlift.model.mini.landmark_fit import HeadFit, LandmarkErrors, LandmarkShape, fit_landmarks
from headlift.model.mini.mesh_landmarks import FORMAT, MeshLandmarks, MeshStatistics, fit_with_mesh, load_statistics
from headlift.model.types import FOCAL

L, P, M, K = 60, 40, 30, 4
PIXELS = torch.ones(2, 4, 8, 8)


def seen(shape: LandmarkShape, pose: Tensor, code: Tensor) -> Tensor:
    from headlift.model.cameras import cameras_from_pose

    view = cameras_from_pose(pose, 1).viewmats
    points = shape.mean + torch.einsum("bk,kld->bld", code, shape.basis)
    local = points @ view[:, :3, :3].mT + view[:, None, :3, 3]
    return 0.5 + FOCAL * local[..., :2] / local[..., 2:]


class Case:
    """Two turned heads whose landmarks are off, and a mesh that sees its points where they are."""

    def __init__(self, yaw_deg: float = 15.0, score: tuple[float, float] = (0.99, 0.99)) -> None:
        gen = torch.Generator().manual_seed(0)
        anchors = torch.randn(200, 3, generator=gen) * torch.tensor([0.07, 0.1, 0.07])
        basis = 0.004 * torch.randn(K, 200, 3, generator=gen)
        self.shape = LandmarkShape(anchors[:L], basis[:, :L])
        weights = torch.rand(P, 12, generator=gen)
        self.statistics = MeshStatistics(
            torch.randint(0, 200, (P, 12), generator=gen), weights / weights.sum(1, keepdim=True),
            0.002 * torch.randn(P, 3, generator=gen), torch.arange(M), torch.full((M,), 0.004),
            LandmarkErrors(M).whitening,
        )  # fmt: skip
        self.mesh_shape = self.statistics.shape(anchors, basis)
        self.pose = pose_from_cameras(orbit_cameras([yaw_deg, -yaw_deg]))
        self.code = torch.randn(2, K, generator=gen)
        self.points, self.score = seen(self.mesh_shape, self.pose, self.code), torch.tensor(score)
        self.landmarks = seen(self.shape, self.pose, self.code) + 0.02 * torch.randn(2, L, 2, generator=gen)
        self.guesses: list[Tensor] = []

    def detect(self, pictures: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        assert pictures.shape == (2, 3, 8, 8)
        self.guesses.append(guess)
        return self.points, self.score

    def fits(self) -> tuple[HeadFit, HeadFit]:
        """To HeadNet's landmarks alone, and with the mesh."""
        known = (
            self.landmarks, torch.full((2, L), 0.02), self.shape, torch.tensor(FRONTAL_POSE).expand(2, -1),
            torch.zeros(2, K), torch.full((K,), 3.0), None,
        )  # fmt: skip
        errors = LandmarkErrors(L)
        alone = fit_landmarks(*known, errors=errors)
        mesh = MeshLandmarks(self.detect, self.statistics)
        return alone, fit_with_mesh(mesh, self.mesh_shape, PIXELS, alone, *known, errors=errors)


def degrees(a: Tensor, b: Tensor) -> float:
    return float((a[:, :6] - b[:, :6]).norm(dim=1).mean()) * 180 / math.pi


def test_a_mesh_that_sees_better_brings_camera_and_shape_nearer() -> None:
    case = Case()
    alone, both = case.fits()
    assert degrees(both.pose, case.pose) < 0.7 * degrees(alone.pose, case.pose)
    assert float((both.code - case.code).abs().mean()) < float((alone.code - case.code).abs().mean())
    assert float((case.guesses[0] - case.points).abs().mean()) < 0.03


def test_an_unsure_mesh_and_a_profile_leave_headnet_alone_bit_for_bit() -> None:
    for case in (Case(score=(0.89, 0.5)), Case(yaw_deg=80.0)):
        alone, both = case.fits()
        assert all(torch.equal(a, b) for a, b in zip(vars(alone).values(), vars(both).values(), strict=True))


def test_each_portrait_of_a_batch_is_judged_for_itself() -> None:
    alone, both = Case(score=(0.5, 0.99)).fits()
    assert torch.equal(alone.pose[0], both.pose[0])
    assert not torch.equal(alone.pose[1], both.pose[1])


def test_statistics_come_back_from_their_file_and_others_are_refused(tmp_path: Path) -> None:
    statistics = Case().statistics
    file = tmp_path / "mesh.safetensors"
    save_file(vars(statistics), file, metadata={"format": FORMAT, "template": "abc"})
    read, template = load_statistics(file)
    assert template == "abc"
    assert all(torch.equal(a, b) for a, b in zip(vars(read).values(), vars(statistics).values(), strict=True))
    save_file(vars(replace(statistics)), file, metadata={"format": "other", "template": "abc"})
    with pytest.raises(CorruptWeightsError):
        load_statistics(file)
