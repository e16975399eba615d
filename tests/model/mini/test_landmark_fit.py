"""Camera and shape from landmarks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headlift.model.cameras import FRONTAL_POSE, POSE_DIM, cameras_from_pose
from headlift.model.mini.landmark_fit import LandmarkErrors, LandmarkShape, fit_landmarks, landmark_errors
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
    found = fit_landmarks(seen(shape, pose, code), spread, shape, front, torch.zeros(B, K), torch.full((K,), 3.0))
    assert degrees(found.pose, pose).max() < 0.1
    torch.testing.assert_close(found.code, code, atol=0.01, rtol=0)


def test_a_few_wild_landmarks_hardly_move_the_camera(shape: LandmarkShape) -> None:
    pose, code = truth()
    landmarks = seen(shape, pose, code)
    landmarks[:, ::10] += 0.3
    front = torch.tensor(FRONTAL_POSE).expand(B, -1)
    found = fit_landmarks(landmarks, torch.full((B, L), 0.004), shape, front, torch.zeros(B, K), torch.full((K,), 3.0))
    assert degrees(found.pose, pose).max() < 1.0


def test_a_given_camera_stays_and_the_shape_follows_the_landmarks(shape: LandmarkShape) -> None:
    pose, code = truth()
    found = fit_landmarks(
        seen(shape, pose, code),
        torch.full((B, L), 0.003),
        shape,
        pose,
        torch.zeros(B, K),
        torch.full((K,), 3.0),
        fixed_camera=True,
    )
    assert degrees(found.pose, pose).max() < 0.05
    torch.testing.assert_close(found.code, code, atol=0.01, rtol=0)


def test_a_guess_that_is_sure_of_itself_outweighs_doubtful_landmarks(shape: LandmarkShape) -> None:
    pose, code = truth()
    guess = torch.zeros(B, K)
    found = fit_landmarks(seen(shape, pose, code), torch.full((B, L), 0.5), shape, pose, guess, torch.full((K,), 0.02))
    assert (found.code - guess).abs().max() < 0.05


def test_where_landmarks_say_little_the_camera_stays_with_a_trusted_guess(shape: LandmarkShape) -> None:
    pose, code = truth()
    landmarks = seen(shape, pose, code)
    blurred = landmarks + 0.05 * torch.randn(landmarks.shape, generator=torch.Generator().manual_seed(2))
    guess, spread = pose + 0.004, torch.full((B, L), 0.3)
    args = (blurred, spread, shape, guess, torch.zeros(B, K), torch.full((K,), 0.5))
    alone = fit_landmarks(*args).pose
    held = fit_landmarks(*args, torch.full((POSE_DIM,), 0.01)).pose
    assert degrees(held, guess).max() < 1.0
    assert degrees(held, pose).mean() < 0.5 * degrees(alone, pose).mean()


def test_landmarks_overrule_a_guess_of_the_camera_that_is_doubted(shape: LandmarkShape) -> None:
    pose, code = truth()
    front = torch.tensor(FRONTAL_POSE).expand(B, -1)
    found = fit_landmarks(
        seen(shape, pose, code), torch.full((B, L), 0.003), shape, front, torch.zeros(B, K), torch.full((K,), 3.0),
        torch.full((POSE_DIM,), 0.3),
    )  # fmt: skip
    assert degrees(found.pose, pose).max() < 0.5


def test_landmarks_that_err_together_are_not_taken_for_so_many_witnesses(shape: LandmarkShape) -> None:
    """Half of them are always off by the same; whoever knows that from samples believes the other half."""
    gen = torch.Generator().manual_seed(3)

    def errors(count: int) -> Tensor:  # [count, L, 2] spreads
        own = 0.3 * torch.randn(count, L, 2, generator=gen)
        own[:, ::2] += 3.0 * torch.randn(count, 1, 2, generator=gen)
        return own

    known = LandmarkErrors(L)
    known.fill(errors(4096))
    pose, code = truth()
    spread = torch.full((B, L), 0.004)
    landmarks = seen(shape, pose, code) + errors(B) * 0.004
    args = (landmarks, spread, shape, pose, torch.zeros(B, K), torch.full((K,), 3.0))
    off = {name: degrees(fit_landmarks(*args, errors=e).pose, pose) for name, e in (("known", known), ("alone", None))}
    assert off["known"].mean() < 0.5 * off["alone"].mean()


def test_what_landmarks_always_have_wrong_is_not_believed(shape: LandmarkShape) -> None:
    gen = torch.Generator().manual_seed(4)
    always = torch.randn(L, 2, generator=gen)
    known = LandmarkErrors(L)
    known.fill(always + 0.5 * torch.randn(2000, L, 2, generator=gen))
    pose, code = truth()
    spread = torch.full((B, L), 0.01)
    landmarks = seen(shape, pose, code) + always * 0.01
    args = (landmarks, spread, shape, pose, torch.zeros(B, K), torch.full((K,), 3.0))
    assert degrees(fit_landmarks(*args, errors=known).pose, pose).max() < 0.1
    assert degrees(fit_landmarks(*args).pose, pose).mean() > 0.2


def test_errors_are_whitened(shape: LandmarkShape) -> None:
    """What comes out of samples is as wide as on new people, and hardly correlated."""
    gen = torch.Generator().manual_seed(5)
    samples = torch.randn(4096, 2 * L, generator=gen) @ (
        torch.eye(2 * L) + 0.05 * torch.randn(2 * L, 2 * L, generator=gen)
    )
    known = LandmarkErrors(L)
    known.fill(samples.view(-1, L, 2))
    white = torch.cov(known.whitening @ samples.T)
    assert white.diagonal().mean() == pytest.approx(0.5, abs=0.1)
    assert (white - torch.diag(white.diagonal())).abs().mean() < 0.03


def test_errors_are_counted_in_spreads() -> None:
    truth = torch.full((1, 2, 2), 0.5)
    spread = torch.tensor([[0.01, 0.0]])  # nobody sees better than three thousandths
    found = landmark_errors(truth + 0.03, spread, truth)
    torch.testing.assert_close(found, torch.tensor([[[3.0, 3.0], [10.0, 10.0]]]))


def test_what_landmarks_do_not_see_is_as_open_as_before(shape: LandmarkShape) -> None:
    pose, code = truth()
    shape.basis[-1] = 0  # the last number moves no landmark
    doubt = torch.full((K,), 0.5)
    found = fit_landmarks(seen(shape, pose, code), torch.full((B, L), 0.003), shape, pose, torch.zeros(B, K), doubt)
    error = torch.linalg.inv(found.precision).diagonal(dim1=1, dim2=2)[:, 6:].sqrt()
    torch.testing.assert_close(error[:, -1], torch.full((B,), 0.5), rtol=1e-3, atol=0)
    assert error[:, :-1].max() < 0.4


def test_files_from_before_errors_were_kept_still_load() -> None:
    known = LandmarkErrors(3)
    known.fill(torch.randn(50, 3, 2))
    old = LandmarkErrors(3)
    old.load_state_dict({})
    torch.testing.assert_close(old.whitening, torch.eye(6) / 6**0.5)
    old.load_state_dict(known.state_dict())
    torch.testing.assert_close(old.whitening, known.whitening)
