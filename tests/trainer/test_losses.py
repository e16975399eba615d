"""Losses are zero at the truth, positive elsewhere, and pull the right way."""

import torch

from headlift.model.cameras import orbit_cameras
from headlift_trainer.losses import anchor_loss, picture_loss, reprojection_loss, sharpness_loss
from headlift_trainer.metrics import psnr


def test_every_loss_is_zero_at_the_truth() -> None:
    means, colors, seen = torch.randn(2, 9, 3), torch.rand(2, 9, 3), torch.rand(2, 9)
    assert float(anchor_loss(means, colors, means, colors, seen)) == 0
    viewmats = orbit_cameras([0.0, 40.0]).viewmats
    assert float(reprojection_loss(means * 0.05, viewmats, viewmats)) == 0
    target = torch.rand(3, 4, 16, 16)
    assert float(picture_loss(target[:, :3], target[:, 3:], target, torch.rand(3, 3, 1, 1))) == 0


def test_a_turned_camera_costs_what_it_moves_in_the_picture() -> None:
    points = torch.tensor([[[0.0, 0.01, 0.1]]])
    true, turned = orbit_cameras([0.0]).viewmats, orbit_cameras([5.0]).viewmats
    small = float(reprojection_loss(points, orbit_cameras([1.0]).viewmats, true))
    assert 4 < float(reprojection_loss(points, turned, true)) / small < 6


def test_badly_seen_colors_count_less() -> None:
    means, colors = torch.zeros(1, 4, 3), torch.zeros(1, 4, 3)
    losses = [float(anchor_loss(means, colors + 0.5, means, colors, torch.full((1, 4), w))) for w in (0.0, 1.0)]
    assert 0 < losses[0] < losses[1]


def test_picture_loss_sees_through_to_the_background() -> None:
    rgb, alpha = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    target = torch.cat([torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)], 1)
    black, white = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    assert float(picture_loss(rgb, alpha, target, white)) > float(picture_loss(rgb, alpha, target, black))


def test_psnr_of_a_tenth_off_is_twenty_decibels() -> None:
    assert torch.allclose(psnr(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.1)), torch.tensor(20.0))


def test_sharpening_pays_for_moving_what_is_broad_and_not_for_steeper_edges() -> None:
    """A plain picture is a blurred edge; its brightness mended everywhere is no sharpening, a steeper edge is."""
    x = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    truth, plain, steeper = ((x * k).sigmoid() for k in (80.0, 40.0, 60.0))
    at_rest = float(sharpness_loss(plain, plain, truth))
    assert float(sharpness_loss(steeper, plain, truth)) < at_rest
    darker = truth * 0.8
    assert float(sharpness_loss(plain * 0.8, plain, darker)) > float(sharpness_loss(plain * 0.99, plain, darker)) + 0.5
