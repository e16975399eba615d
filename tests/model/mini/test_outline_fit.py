"""Camera, head code and deformation from the matte."""

import pytest
import torch

from headlift.model.cameras import FRONTAL_POSE, cameras_from_pose, orbit_cameras
from headlift.model.mini.landmark_fit import HeadFit, LandmarkShape, fit_landmarks
from headlift.model.mini.outline_fit import (
    STRIDE,
    SubsampledHead,
    apply_deformation,
    deform_weight,
    fit_deformation,
    fit_outline,
)
from headlift.model.splat import rasterize
from headlift.model.template import Region
from headlift.model.types import FOCAL, Gaussians

POSE = torch.tensor([FRONTAL_POSE], dtype=torch.float32)
VIEW = cameras_from_pose(POSE, 1).viewmats


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


def fit(ball, marks, alpha, code=(0.0, 0.0), steps=24, source_mask=None):
    found = seen(ball, marks, torch.tensor([code]), fixed_camera=True)
    pose, codes = fit_outline(alpha, ball, found, steps=steps, source_mask=source_mask, fixed_camera=True)
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
    source_mask = torch.ones_like(alpha)
    source_mask[..., 72:] = 0
    cut = fit(ball, marks, alpha * source_mask)
    found = fit(ball, marks, alpha * source_mask, source_mask=source_mask)
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
    doubtful = seen(ball, marks, torch.zeros(1, 2), spread=0.3, pose=guess, pose_std=torch.full((9,), 0.03))
    pose, code = fit_outline(matte(ball, [0.0, 0.0]), ball, doubtful, steps=40)
    assert aside(pose, POSE) < 0.4 * aside(doubtful.pose, POSE)
    assert torch.isfinite(code).all()


def test_a_camera_that_landmarks_hold_stays(ball, marks):
    sure = seen(ball, marks, torch.zeros(1, 2), spread=0.003)
    pose, _ = fit_outline(matte(ball, [0.0, 3.0]), ball, sure, steps=24)
    assert aside(pose, POSE) < 0.004


# -- the deformation of hair and clothes ------------------------------------------------------------


@pytest.fixture(scope="module")
def anchors():
    """A ball of 12,000 anchors: the lower front of it is the face."""
    generator = torch.Generator().manual_seed(0)
    return 0.09 * torch.nn.functional.normalize(torch.randn(12_000, 3, generator=generator), dim=-1)


@pytest.fixture(scope="module")
def free(anchors):
    face = (anchors[:, 1] < 0) & (anchors[:, 2] > 0)
    return deform_weight(anchors, torch.where(face, int(Region.FACE), int(Region.HAIR)).to(torch.uint8))


def discs(count):
    quats = torch.nn.functional.pad(torch.ones(count, 1), (0, 3))
    return quats, torch.full((count, 3), 0.003)


def outline(means, side=128):
    quats, scales = discs(len(means))
    ones = torch.ones_like(means)
    return rasterize(Gaussians(means, quats, scales, 0.9 * ones[:, 0], ones), cameras_from_pose(POSE, side)).alpha


def shifts_of(anchors, free, alphas, steps=24, source_mask=None):
    """Shifts of balls that a code of one number makes 1 + code times as large; here it stays 0."""
    quats, scales = discs(len(anchors))
    rows = slice(None, None, STRIDE)
    head = SubsampledHead(anchors[rows], anchors[None, rows], quats[rows], scales[rows] * STRIDE**0.5)
    count = len(alphas)
    where, code = POSE.expand(count, -1), torch.zeros(count, 1)
    return fit_deformation(alphas, head, free[rows], where, code, cells=8, steps=steps, source_mask=source_mask)


def overlap(a, b):
    a, b = a > 0.5, b > 0.5
    return float((a & b).sum() / (a | b).sum())


def test_the_face_is_held_and_the_far_is_free(anchors, free):
    face = (anchors[:, 1] < 0) & (anchors[:, 2] > 0)
    assert float(free[face].max()) == 0
    assert float(free[anchors[:, 1] > 0.07].min()) == 1
    assert 0 < float(free[(anchors[:, 1] > 0.02) & (anchors[:, 1] < 0.04) & (anchors[:, 2] > 0.05)].mean()) < 1
    assert torch.equal(deform_weight(anchors, torch.full((len(anchors),), int(Region.HAIR))), torch.ones(len(anchors)))


def test_a_shift_moves_what_a_pixel_shows_by_that_share_of_the_picture(anchors):
    shift = torch.zeros(1, 2, 4, 4)
    shift[:, 0], shift[:, 1] = 0.02, -0.05
    moved = apply_deformation(anchors[None], shift, torch.ones(len(anchors)), VIEW)[0]

    def places(x):
        x = x @ VIEW[0, :3, :3].T + VIEW[0, :3, 3]
        return FOCAL * x[:, :2] / x[:, 2:], x[:, 2]

    (before, depth), (after, same) = places(anchors), places(moved)
    assert torch.allclose(after - before, torch.tensor([0.02, -0.05]).expand_as(after), atol=1e-5)
    assert torch.allclose(depth, same, atol=1e-6)


def test_what_lies_behind_moves_with_what_lies_before(anchors):
    """From behind, the outline is the mirror image of that from the front."""
    shift = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.02
    pair = torch.tensor([[[0.02, 0.05, 0.06], [0.0, 0.0, 0.0]]])
    ray = torch.linalg.inv(VIEW[0]) @ torch.tensor([0.0, 0, 0, 1])
    pair[0, 1] = pair[0, 0] + 0.15 * (pair[0, 0] - ray[:3]) / (pair[0, 0] - ray[:3]).norm()  # further along the ray
    moved = (apply_deformation(pair, shift, torch.ones(2), VIEW) - pair)[0]
    assert float(moved[0].norm()) > 1e-3
    assert torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > 0.999


def test_hair_grows_to_a_bun_that_the_code_does_not_know(anchors, free):
    bun = anchors.clone()
    bun[:, 1] += 0.03 * ((anchors[:, 1] - 0.03) / 0.06).clamp(0, 1) * (1 - (anchors[:, 0] / 0.08).square()).clamp_min(0)
    alpha = outline(bun)
    warp = shifts_of(anchors, free, alpha)
    moved = apply_deformation(anchors[None], warp, free, VIEW)[0]
    assert overlap(outline(anchors), alpha) < 0.92
    assert overlap(outline(moved), alpha) > 0.955
    face = (anchors[:, 1] < 0) & (anchors[:, 2] > 0)
    assert torch.equal(moved[face], anchors[face])
    behind = orbit_cameras([180.0], width=128, height=128)

    def seen(means):
        quats, scales = discs(len(means))
        ones = torch.ones_like(means)
        return rasterize(Gaussians(means, quats, scales, 0.9 * ones[:, 0], ones), behind).alpha

    assert overlap(seen(anchors), seen(bun)) < 0.92
    assert overlap(seen(moved), seen(bun)) > 0.955


def test_a_head_that_fills_its_matte_hardly_moves(anchors, free):
    moved = apply_deformation(anchors[None], shifts_of(anchors, free, outline(anchors)), free, VIEW)[0]
    assert overlap(outline(moved), outline(anchors)) > 0.97
    assert float((moved - anchors).norm(dim=1).mean()) < 0.005


def test_below_the_photograph_nothing_is_said(anchors, free):
    """A crop that ends above the shoulders does not pull them up."""
    alpha = outline(anchors)
    alpha[:, :, 70:] = 0
    warp = shifts_of(anchors, free, alpha)
    moved = apply_deformation(anchors[None], warp, free, VIEW)[0]
    low = anchors[:, 1] < -0.05
    assert float((moved - anchors)[low].norm(dim=1).max()) < 0.008


def test_past_the_photographs_border_nothing_is_said(anchors, free):
    """A photograph that ends beside the head does not cut the head."""
    alpha = outline(anchors)
    source_mask = torch.ones_like(alpha)
    source_mask[..., :50] = 0
    cut = alpha * source_mask
    side = anchors[:, 0] < -0.06
    means = [
        apply_deformation(anchors[None], shifts_of(anchors, free, cut, source_mask=mask), free, VIEW)[0]
        for mask in (None, source_mask)
    ]
    drawn_in, left = ((m - anchors)[side, 0].mean() for m in means)
    assert float(drawn_in) > 0.006
    assert abs(float(left)) < 0.002
    assert overlap(outline(means[1]), alpha) > overlap(outline(means[0]), alpha) + 0.05


def test_each_head_of_a_batch_is_fitted_alone(anchors, free):
    alphas = torch.cat([outline(anchors), outline(anchors * 1.1)])
    both = shifts_of(anchors, free, alphas, steps=4)
    assert both.shape == (2, 2, 8, 8)
    assert torch.equal(both[1], shifts_of(anchors, free, alphas[1:], steps=4)[0])
    assert not torch.allclose(both[0], both[1])
