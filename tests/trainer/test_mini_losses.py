"""What a training step of `mini` does to its batch."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.model.cameras import orbit_cameras
from headlift.model.types import FOCAL, HEAD_CENTER, RenderedViews
from headlift_trainer.datasets.synthetic import HeadBatch
from headlift_trainer.device import to_device
from headlift_trainer.mini_losses import pixel_losses, turned
from headlift_trainer.recipes.mini import pictures

B, N, C = 3, 40, 2


def places(points: Tensor, viewmats: Tensor) -> Tensor:
    local = points @ viewmats[..., :3, :3].mT + viewmats[..., None, :3, 3]
    return FOCAL * local[..., :2] / local[..., 2:]


def batch() -> HeadBatch:
    generator = torch.Generator().manual_seed(0)
    means = 0.1 * torch.randn(B, N, 3, generator=generator)
    targets = orbit_cameras([0.0, 90.0, 180.0, 30.0, -60.0, 10.0]).viewmats.reshape(B, C, 4, 4)
    return HeadBatch(
        torch.zeros(B, 4, 8, 8), orbit_cameras([0.0, 20.0, -40.0], [0.0, 10.0, 0.0]).viewmats,
        means, torch.rand(B, N, 3, generator=generator), torch.ones(B, N), torch.zeros(B, C, 4, 8, 8), targets,
    )  # fmt: skip


def test_a_turned_batch_shows_the_same_pictures() -> None:
    given = batch()
    found = turned(given, orbit_cameras([3.0, 26.0, -41.0], [2.0, 6.0, 1.0]).viewmats)
    assert given.target_viewmats is not None
    assert found.target_viewmats is not None
    torch.testing.assert_close(places(found.means, found.viewmats), places(given.means, given.viewmats))
    everywhere = given.means[:, None], found.means[:, None]
    seen = [places(m, v) for m, v in zip(everywhere, (given.target_viewmats, found.target_viewmats), strict=True)]
    torch.testing.assert_close(seen[1], seen[0])


def test_a_turned_batch_is_seen_by_the_estimated_camera() -> None:
    given = batch()
    estimate = orbit_cameras([3.0, 26.0, -41.0], [2.0, 6.0, 1.0]).viewmats
    found = turned(given, estimate)
    torch.testing.assert_close(found.viewmats[:, :3, :3], estimate[:, :3, :3])
    torch.testing.assert_close(found.viewmats, estimate, atol=1e-5, rtol=0)  # these cameras differ by a turn alone
    center = torch.tensor(HEAD_CENTER)
    before, after = ((x - center).norm(dim=-1) for x in (given.means, found.means))
    torch.testing.assert_close(after, before)  # about the middle of the head


def test_a_true_estimate_turns_nothing() -> None:
    given = batch()
    found = turned(given, given.viewmats)
    torch.testing.assert_close(found.means, given.means)
    torch.testing.assert_close(found.target_viewmats, given.target_viewmats)


def test_losses_stay_on_the_batchs_device() -> None:
    """On meta tensors, which refuse to be mixed with the CPU's as a GPU's do."""
    meta = torch.device("meta")
    given = to_device(batch(), meta)
    assert turned(given, given.viewmats).means.device == meta
    views = to_device(RenderedViews(torch.zeros(C, 3, 16, 16), *torch.zeros(2, C, 1, 16, 16)), meta)
    target, stage = torch.zeros(C, 4, 16, 16, device=meta), pictures(1.0)
    (loss,) = pixel_losses(views, target, stage, torch.Generator())
    assert loss.device == meta
