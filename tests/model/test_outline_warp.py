"""Hair and clothes drawn to the matte."""

import pytest
import torch
from headlift.model.encoder import FRONTAL_POSE

from headlift.model.cameras import cameras_from_pose, orbit_cameras
from headlift.model.mini.outline_fit import STRIDE, SubsampledHead, apply_deformation, deform_weight, fit_deformation
from headlift.model.splat import rasterize
from headlift.model.template import Region
from headlift.model.types import FOCAL, Gaussians

POSE = torch.tensor([FRONTAL_POSE], dtype=torch.float32)
VIEW = cameras_from_pose(POSE, 1).viewmats


@pytest.fixture(scope="module")
def ball():
    """A ball of 12,000 anchors: the lower front of it is the face."""
    generator = torch.Generator().manual_seed(0)
    return 0.09 * torch.nn.functional.normalize(torch.randn(12_000, 3, generator=generator), dim=-1)


@pytest.fixture(scope="module")
def free(ball):
    face = (ball[:, 1] < 0) & (ball[:, 2] > 0)
    return deform_weight(ball, torch.where(face, int(Region.FACE), int(Region.HAIR)).to(torch.uint8))


def discs(count):
    quats = torch.nn.functional.pad(torch.ones(count, 1), (0, 3))
    return quats, torch.full((count, 3), 0.003)


def outline(means, side=128):
    quats, scales = discs(len(means))
    ones = torch.ones_like(means)
    return rasterize(Gaussians(means, quats, scales, 0.9 * ones[:, 0], ones), cameras_from_pose(POSE, side)).alpha


def fit(ball, free, alphas, steps=24, known=None):
    """Shifts of balls that a code of one number makes 1 + code times as large; here it stays 0."""
    quats, scales = discs(len(ball))
    rows = slice(None, None, STRIDE)
    head = SubsampledHead(ball[rows], ball[None, rows], quats[rows], scales[rows] * STRIDE**0.5)
    count = len(alphas)
    where, code = POSE.expand(count, -1), torch.zeros(count, 1)
    return fit_deformation(alphas, head, free[rows], where, code, cells=8, steps=steps, known=known)


def overlap(a, b):
    a, b = a > 0.5, b > 0.5
    return float((a & b).sum() / (a | b).sum())


def test_the_face_is_held_and_the_far_is_free(ball, free):
    face = (ball[:, 1] < 0) & (ball[:, 2] > 0)
    assert float(free[face].max()) == 0
    assert float(free[ball[:, 1] > 0.07].min()) == 1
    assert 0 < float(free[(ball[:, 1] > 0.02) & (ball[:, 1] < 0.04) & (ball[:, 2] > 0.05)].mean()) < 1
    assert torch.equal(deform_weight(ball, torch.full((len(ball),), int(Region.HAIR))), torch.ones(len(ball)))


def test_a_shift_moves_what_a_pixel_shows_by_that_share_of_the_picture(ball):
    shift = torch.zeros(1, 2, 4, 4)
    shift[:, 0], shift[:, 1] = 0.02, -0.05
    moved = apply_deformation(ball[None], shift, torch.ones(len(ball)), VIEW)[0]

    def places(x):
        x = x @ VIEW[0, :3, :3].T + VIEW[0, :3, 3]
        return FOCAL * x[:, :2] / x[:, 2:], x[:, 2]

    (before, depth), (after, same) = places(ball), places(moved)
    assert torch.allclose(after - before, torch.tensor([0.02, -0.05]).expand_as(after), atol=1e-5)
    assert torch.allclose(depth, same, atol=1e-6)


def test_what_lies_behind_moves_with_what_lies_before(ball):
    """From behind, the outline is the mirror image of that from the front."""
    shift = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.02
    pair = torch.tensor([[[0.02, 0.05, 0.06], [0.0, 0.0, 0.0]]])
    ray = torch.linalg.inv(VIEW[0]) @ torch.tensor([0.0, 0, 0, 1])
    pair[0, 1] = pair[0, 0] + 0.15 * (pair[0, 0] - ray[:3]) / (pair[0, 0] - ray[:3]).norm()  # further along the ray
    moved = (apply_deformation(pair, shift, torch.ones(2), VIEW) - pair)[0]
    assert float(moved[0].norm()) > 1e-3
    assert torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > 0.999


def test_hair_grows_to_a_bun_that_the_code_does_not_know(ball, free):
    bun = ball.clone()
    bun[:, 1] += 0.03 * ((ball[:, 1] - 0.03) / 0.06).clamp(0, 1) * (1 - (ball[:, 0] / 0.08).square()).clamp_min(0)
    alpha = outline(bun)
    warp = fit(ball, free, alpha)
    moved = apply_deformation(ball[None], warp, free, VIEW)[0]
    assert overlap(outline(ball), alpha) < 0.92
    assert overlap(outline(moved), alpha) > 0.955
    face = (ball[:, 1] < 0) & (ball[:, 2] > 0)
    assert torch.equal(moved[face], ball[face])
    behind = orbit_cameras([180.0], width=128, height=128)

    def seen(means):
        quats, scales = discs(len(means))
        ones = torch.ones_like(means)
        return rasterize(Gaussians(means, quats, scales, 0.9 * ones[:, 0], ones), behind).alpha

    assert overlap(seen(ball), seen(bun)) < 0.92
    assert overlap(seen(moved), seen(bun)) > 0.955


def test_hair_that_stands_off_on_both_sides_stands_off_before_and_behind(ball):
    """What the picture cannot show of an afro; a ponytail to one side, or thin sides, say nothing of the back."""
    free, middle = torch.ones(len(ball)), torch.zeros(3)
    outwards = torch.zeros(1, 2, 9, 9)
    outwards[:, 0] = 0.04 * torch.linspace(-1, 1, 9)

    def depth(shift):
        flat, round_ = (
            apply_deformation(ball[None], shift, free, VIEW)[0],
            apply_deformation(ball[None], shift, free, VIEW, middle)[0],
        )
        assert torch.allclose(flat[:, :2], round_[:, :2], atol=1e-4)  # the camera looks almost along z
        return round_ - flat

    grown = depth(outwards)[:, 2]
    wide = apply_deformation(ball[None], outwards, free, VIEW)[0] - ball
    assert float(grown.max()) == pytest.approx(float(wide[:, 0].max()), rel=0.2)
    assert float(grown.min()) == pytest.approx(-float(grown.max()), rel=0.05)
    assert float(grown[ball[:, 2].abs() < 0.005].abs().max()) < 0.1 * float(grown.max())
    assert not depth(-outwards).any()
    assert not depth(outwards.clamp_min(0)).abs().max() > 1e-6
    assert float((depth(outwards)[:, 2] * torch.sign(ball[:, 2])).min()) >= 0


def test_a_head_that_fills_its_matte_hardly_moves(ball, free):
    moved = apply_deformation(ball[None], fit(ball, free, outline(ball)), free, VIEW)[0]
    assert overlap(outline(moved), outline(ball)) > 0.97
    assert float((moved - ball).norm(dim=1).mean()) < 0.005


def test_below_the_photograph_nothing_is_said(ball, free):
    """A crop that ends above the shoulders does not pull them up."""
    alpha = outline(ball)
    alpha[:, :, 70:] = 0
    warp = fit(ball, free, alpha)
    moved = apply_deformation(ball[None], warp, free, VIEW)[0]
    low = ball[:, 1] < -0.05
    assert float((moved - ball)[low].norm(dim=1).max()) < 0.008


def test_past_the_photographs_border_nothing_is_said(ball, free):
    """A photograph that ends beside the head does not cut the head."""
    alpha = outline(ball)
    known = torch.ones_like(alpha)
    known[..., :50] = 0
    cut = alpha * known
    side = ball[:, 0] < -0.06
    means = [apply_deformation(ball[None], fit(ball, free, cut, known=k), free, VIEW)[0] for k in (None, known)]
    drawn_in, left = ((m - ball)[side, 0].mean() for m in means)
    assert float(drawn_in) > 0.006
    assert abs(float(left)) < 0.002
    assert overlap(outline(means[1]), alpha) > overlap(outline(means[0]), alpha) + 0.05


def test_each_head_of_a_batch_is_fitted_alone(ball, free):
    alphas = torch.cat([outline(ball), outline(ball * 1.1)])
    both = fit(ball, free, alphas, steps=4)
    assert both.shape == (2, 2, 8, 8)
    assert torch.equal(both[1], fit(ball, free, alphas[1:], steps=4)[0])
    assert not torch.allclose(both[0], both[1])
