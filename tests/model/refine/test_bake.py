"""Baking: plain views of the baked head look like the sharpened views of the head."""

import math

import pytest
import torch
import torch.nn.functional as F

from headlift.errors import CancelledError
from headlift.model.cameras import orbit_cameras
from headlift.model.refine.bake import BakeSettings, bake_sharpening
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians

SIDE = 96


@pytest.fixture(scope="module")
def head():
    """A ball of coloured stripes."""
    n = 4000
    turn = torch.arange(n) + 0.5
    polar, around = torch.arccos(1 - 2 * turn / n), math.pi * (1 + 5**0.5) * turn
    unit = torch.stack(
        [torch.cos(around) * torch.sin(polar), torch.cos(polar), torch.sin(around) * torch.sin(polar)], 1
    )
    means = 0.1 * unit
    colors = 0.5 + 0.3 * torch.sin(torch.stack([90 * means[:, 0], 70 * means[:, 1], 80 * means[:, 2]], 1))
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    return Gaussians(means, quats, torch.full((n, 3), 2.5e-3), torch.full((n,), 0.7), colors)


@pytest.fixture(scope="module")
def cameras():
    return orbit_cameras([0, 60, 120, 180, -120, -60], width=SIDE, height=SIDE)


def sharpened(rgb):
    """An unsharp mask, in place of the network."""
    return (rgb + 0.8 * (rgb - F.avg_pool2d(rgb, 5, 1, 2, count_include_pad=False))).clamp(0, 1)


def psnr(a, b):
    return -10 * math.log10(float((a - b).square().mean()))


def views(head, cameras):
    with torch.no_grad():
        return rasterize(head, cameras).rgb


def test_views_come_nearer_to_the_sharpened_ones_also_between_the_cameras(head, cameras):
    targets = sharpened(views(head, cameras))
    baked = bake_sharpening(head, cameras, targets, lambda _: None).validate()
    between = orbit_cameras([30, 150, -90], 5, width=SIDE, height=SIDE)
    assert psnr(views(baked, cameras), targets) >= psnr(views(head, cameras), targets) + 2
    assert psnr(views(baked, between), sharpened(views(head, between))) >= (
        psnr(views(head, between), sharpened(views(head, between))) + 1
    )
    assert torch.equal(baked.means, head.means)
    assert torch.equal(baked.quats, head.quats)


def test_views_that_are_sharp_already_change_little(head, cameras):
    targets = views(head, cameras)
    baked = bake_sharpening(head, cameras, targets, lambda _: None)
    assert psnr(views(baked, cameras), targets) >= 40


def test_the_same_head_is_baked_the_same(head, cameras):
    targets, settings = sharpened(views(head, cameras)), BakeSettings(steps=3)
    once, again = (bake_sharpening(head, cameras, targets, lambda _: None, settings) for _ in range(2))
    assert torch.equal(once.colors, again.colors)


def test_progress_is_told_before_every_step_and_may_stop_the_fit(head, cameras):
    shares = []

    def heard(share):
        shares.append(share)
        if len(shares) == 3:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        bake_sharpening(head, cameras, views(head, cameras), heard, BakeSettings(steps=4))
    assert shares == [0, 0.25, 0.5]
