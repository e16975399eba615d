"""The head code from the matte's outline."""

import pytest
import torch
from headlift.model.encoder import FRONTAL_POSE

from headlift.model.cameras import cameras_from_pose
from headlift.model.mini.landmark_fit import HeadFit, LandmarkShape, fit_landmarks
from headlift.model.mini.outline_fit import SubsampledHead, fit_outline
from headlift.model.splat import rasterize
from headlift.model.types import FOCAL, Gaussians

POSE = torch.tensor([FRONTAL_POSE], dtype=torch.float32)


@pytest.fixture(scope="module")
def ball():
    """A ball whose first code number swells its upper half (hair) and whose second shifts all of it sideways."""
    generator = torch.Generator().manual_seed(0)
    way = torch.nn.functional.normalize(torch.randn(3000, 3, generator=generator), dim=-1)
    swell = 0.012 * way * (way[:, 1:2] > 0)
    shift = torch.tensor([0.004, 0.0, 0.0]).expand(3000, 3)
    quats = torch.nn.functional.pad(torch.ones(3000, 1), (0, 3))
    return SubsampledHead(0.09 * way, torch.stack([swell, shift]), quats, torch.full((3000, 3), 0.006))


@pytest.fixture(scope="module")
def marks(ball):
    """Landmarks on the lower half: they do not follow the swelling."""
    low = (ball.mean[:, 1] < -0.02).nonzero()[:40, 0]
    return LandmarkShape(ball.mean[low], ball.basis[:, low])


def matte(ball, code, side=128):
    means = ball.mean + torch.einsum("k,knd->nd", torch.tensor(code), ball.basis)
    ones = torch.ones_like(means)
    head = Gaussians(means, ball.quats, ball.scales, 0.9 * ones[:, 0], ones)
    return rasterize(head, cameras_from_pose(POSE, side)).alpha


def seen(ball, marks, codes, spread=0.004, pose=POSE, **options) -> HeadFit:
    """The fit to landmarks that lie where heads of these codes [B, 2] have them."""
    matrix = cameras_from_pose(POSE, 1).viewmats[0]
    points = (marks.mean + torch.einsum("bk,kld->bld", codes, marks.basis)) @ matrix[:3, :3].mT + matrix[:3, 3]
    places = 0.5 + FOCAL * points[..., :2] / points[..., 2:]
    spreads = torch.full(places.shape[:2], spread)
    return fit_landmarks(places, spreads, marks, pose.expand(len(codes), -1), codes, torch.ones(2), **options)


def fit(ball, marks, alpha, code=(0.0, 0.0), steps=24, known=None):
    found = seen(ball, marks, torch.tensor([code]), fixed_camera=True)
    pose, codes = fit_outline(alpha, ball, found, steps=steps, known=known, fixed_camera=True)
    torch.testing.assert_close(pose, found.pose)
    return codes[0]


def test_hair_grows_to_the_outline(ball, marks):
    found = fit(ball, marks, matte(ball, [2.0, 0.0]))
    assert float(found[0]) == pytest.approx(2.0, abs=0.5)


def test_a_head_that_fills_its_matte_stays(ball, marks):
    assert float(fit(ball, marks, matte(ball, [0.0, 0.0])).abs().max()) < 0.25


def test_landmarks_keep_their_place(ball, marks):
    """The matte of a shifted head pulls sideways; the landmarks, which the camera was fitted to, do not let go."""
    found = fit(ball, marks, matte(ball, [0.0, 3.0]))
    assert abs(float(found[1])) < 1.5


def test_no_number_moves_by_more_than_three_standard_errors(ball, marks):
    found = fit(ball, marks, torch.ones(1, 1, 128, 128), steps=60)
    assert float(found.abs().max()) <= 3.0 + 1e-6


def test_what_the_photograph_cuts_off_below_is_not_an_outline(ball, marks):
    cut = matte(ball, [2.0, 0.0])
    cut[:, :, 70:] = 0
    assert float(fit(ball, marks, cut)[0]) == pytest.approx(2.0, abs=0.6)


def test_what_the_photograph_cuts_off_beside_is_not_an_outline(ball, marks):
    alpha = matte(ball, [2.0, 0.0])
    known = torch.ones_like(alpha)
    known[..., 72:] = 0
    cut = fit(ball, marks, alpha * known)
    found = fit(ball, marks, alpha * known, known=known)
    assert float(found[0]) == pytest.approx(2.0, abs=0.6)
    assert abs(float(found[0]) - 2) < abs(float(cut[0]) - 2)


def test_each_portrait_of_a_batch_is_fitted_alone(ball, marks):
    mattes = torch.cat([matte(ball, [2.0, 0.0]), matte(ball, [-1.0, 0.0])])
    found = seen(ball, marks, torch.zeros(2, 2), fixed_camera=True)
    _, both = fit_outline(mattes, ball, found, steps=8, fixed_camera=True)
    torch.testing.assert_close(both[1], fit(ball, marks, mattes[1:], steps=8))


def test_it_works_in_inference_mode(ball, marks):
    with torch.inference_mode():
        found = fit(ball, marks, matte(ball, [1.0, 0.0]), steps=2)
    assert torch.isfinite(found).all()


def aside(a, b) -> float:
    """How far apart cameras of poses [1, 9] hold the head, across the picture, m."""
    one, two = (cameras_from_pose(pose, 1).viewmats[0, :2, 3] for pose in (a, b))
    return float((one - two).norm())


def test_a_camera_that_landmarks_leave_open_moves_to_where_the_outline_fits(ball, marks):
    guess = POSE + torch.tensor([[0.0] * 6 + [0.03, 0.0, 0.0]])  # three hundredths of the crop beside
    doubtful = seen(ball, marks, torch.zeros(1, 2), spread=0.3, pose=guess, pose_doubt=torch.full((9,), 0.03))
    pose, code = fit_outline(matte(ball, [0.0, 0.0]), ball, doubtful, steps=40)
    assert aside(pose, POSE) < 0.4 * aside(doubtful.pose, POSE)
    assert torch.isfinite(code).all()


def test_a_camera_that_landmarks_hold_stays(ball, marks):
    sure = seen(ball, marks, torch.zeros(1, 2), spread=0.003)
    pose, _ = fit_outline(matte(ball, [0.0, 3.0]), ball, sure, steps=24)
    assert aside(pose, POSE) < 0.004
