"""Camera and shape from landmarks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headlift.model.cameras import FRONTAL_POSE, POSE_DIM, cameras_from_pose
from headlift.model.landmark_fit import LandmarkShape, fit_landmarks
from headlift.model.types import FOCAL

B, L, K = 4, 120, 6


@pytest.fixture
def shape() -> LandmarkShape:
    gen = torch.Generator().manual_seed(0)
    mean = torch.randn(L, 3, generator=gen) * torch.tensor([0.07, 0.10, 0.07])
    return LandmarkShape(mean, 0.004 * torch.randn(K, L, 3, generator=gen))


def seen(shape: LandmarkShape, pose: Tensor, code: Tensor) -> Tensor:
    view = cameras_from_pose(pose, 1).viewmats
    points = shape.mean + torch.einsum("bk,kld->bld", code, shape.basis)
    local = points @ view[:, :3, :3].mT + view[:, None, :3, 3]
    return 0.5 + FOCAL * local[..., :2] / local[..., 2:]


def truth() -> tuple[Tensor, Tensor]:
    gen = torch.Generator().manual_seed(1)
    pose = torch.tensor(FRONTAL_POSE) + 0.12 * torch.randn(B, POSE_DIM, generator=gen)
    return pose, torch.randn(B, K, generator=gen)


def degrees(a: Tensor, b: Tensor) -> Tensor:
    turn = cameras_from_pose(a, 1).viewmats[:, :3, :3] @ cameras_from_pose(b, 1).viewmats[:, :3, :3].mT
    return ((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).acos().rad2deg()


def test_exact_landmarks_give_the_camera_and_the_shape_back(shape: LandmarkShape) -> None:
    pose, code = truth()
    front = torch.tensor(FRONTAL_POSE).expand(B, -1)
    spread = torch.full((B, L), 0.003)
    found, shaped = fit_landmarks(
        seen(shape, pose, code), spread, shape, front, torch.zeros(B, K), torch.full((K,), 3.0)
    )
    assert degrees(found, pose).max() < 0.1
    torch.testing.assert_close(shaped, code, atol=0.01, rtol=0)


def test_a_few_wild_landmarks_hardly_move_the_camera(shape: LandmarkShape) -> None:
    pose, code = truth()
    landmarks = seen(shape, pose, code)
    landmarks[:, ::10] += 0.3
    front = torch.tensor(FRONTAL_POSE).expand(B, -1)
    found, _ = fit_landmarks(
        landmarks, torch.full((B, L), 0.004), shape, front, torch.zeros(B, K), torch.full((K,), 3.0)
    )
    assert degrees(found, pose).max() < 1.0


def test_a_given_camera_stays_and_the_shape_follows_the_landmarks(shape: LandmarkShape) -> None:
    pose, code = truth()
    found, shaped = fit_landmarks(
        seen(shape, pose, code),
        torch.full((B, L), 0.003),
        shape,
        pose,
        torch.zeros(B, K),
        torch.full((K,), 3.0),
        fixed_camera=True,
    )
    assert degrees(found, pose).max() < 0.05
    torch.testing.assert_close(shaped, code, atol=0.01, rtol=0)


def test_a_guess_that_is_sure_of_itself_outweighs_doubtful_landmarks(shape: LandmarkShape) -> None:
    pose, code = truth()
    guess = torch.zeros(B, K)
    _, shaped = fit_landmarks(
        seen(shape, pose, code), torch.full((B, L), 0.5), shape, pose, guess, torch.full((K,), 0.02)
    )
    assert (shaped - guess).abs().max() < 0.05


def test_where_landmarks_say_little_the_camera_stays_with_a_trusted_guess(shape: LandmarkShape) -> None:
    pose, code = truth()
    landmarks = seen(shape, pose, code)
    blurred = landmarks + 0.05 * torch.randn(landmarks.shape, generator=torch.Generator().manual_seed(2))
    guess, spread = pose + 0.004, torch.full((B, L), 0.3)
    args = (blurred, spread, shape, guess, torch.zeros(B, K), torch.full((K,), 0.5))
    alone, _ = fit_landmarks(*args)
    held, _ = fit_landmarks(*args, torch.full((POSE_DIM,), 0.01))
    assert degrees(held, guess).max() < 1.0
    assert degrees(held, pose).mean() < 0.5 * degrees(alone, pose).mean()


def test_landmarks_overrule_a_guess_of_the_camera_that_is_doubted(shape: LandmarkShape) -> None:
    pose, code = truth()
    front = torch.tensor(FRONTAL_POSE).expand(B, -1)
    found, _ = fit_landmarks(
        seen(shape, pose, code), torch.full((B, L), 0.003), shape, front, torch.zeros(B, K), torch.full((K,), 3.0),
        torch.full((POSE_DIM,), 0.3),
    )  # fmt: skip
    assert degrees(found, pose).max() < 0.5
