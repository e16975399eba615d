"""Terms add up, backgrounds lie behind both pictures, and the named variants are the paper's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.mini.headnet import HeadNet
from headlift_trainer.perceptual import ABLATIONS, PerceptualLoss, composited, headnet_loss, l1_loss, ssim_loss


@pytest.fixture
def loss(headnet: HeadNet) -> PerceptualLoss:
    return PerceptualLoss({"headnet": (2.0, headnet_loss(headnet, side=64)), "l1": (0.5, l1_loss())})


@pytest.fixture
def layered(pictures: Tensor) -> Tensor:
    """Premultiplied colours and alpha, [3, 4, 64, 64]."""
    alpha = (pictures[:, :1] > 0.5).float()
    return torch.cat([pictures * alpha, alpha], 1)


def test_the_total_is_the_weighted_sum_of_the_parts(loss: PerceptualLoss, pictures: Tensor) -> None:
    leaf = pictures.clone().requires_grad_()
    total, parts = loss(leaf, pictures.flip(0))
    assert set(parts) == {"headnet", "l1"}
    assert not any(part.requires_grad for part in parts.values())
    torch.testing.assert_close(total.detach(), 2 * parts["headnet"] + 0.5 * parts["l1"])
    total.backward()
    assert leaf.grad is not None
    assert bool((leaf.grad != 0).any())


def test_encoded_targets_stand_for_targets(loss: PerceptualLoss, layered: Tensor) -> None:
    background = torch.rand(3, 3, 1, 1)
    encoded = loss.encode(layered.flip(0), background)
    total, _ = loss(layered, encoded, background)
    assert torch.equal(total, loss(layered, layered.flip(0), background)[0])


def test_a_background_lies_behind_both_pictures(loss: PerceptualLoss, layered: Tensor) -> None:
    white = torch.ones(3, 1, 1)
    over = composited(layered, white)
    assert torch.equal(over[(layered[:, 3:] == 0).expand_as(over)].unique(), torch.ones(1))
    assert torch.equal(composited(layered, None), layered[:, :3])
    opaque = torch.cat([layered[:, :3], torch.ones(3, 1, 64, 64)], 1)
    assert float(loss(layered, opaque, white)[1]["l1"]) > 0.1
    assert float(loss(layered, opaque)[1]["l1"]) == 0


def test_a_moved_matte_is_felt_through_the_background(loss: PerceptualLoss, layered: Tensor) -> None:
    leaf = layered.clone().requires_grad_()
    loss(leaf, layered.roll(3, -1), torch.rand(3, 3, 1, 1))[0].backward()
    assert leaf.grad is not None
    assert bool((leaf.grad[:, 3] != 0).any())


def test_what_does_not_fit_is_refused(loss: PerceptualLoss, pictures: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="one term is needed"):
        PerceptualLoss({})
    with pytest.raises(InvalidInputError, match="all over 0"):
        PerceptualLoss({"l1": (0.0, l1_loss())})
    with pytest.raises(InvalidInputError, match="lay over a background"):
        loss(pictures, pictures, torch.ones(3, 1, 1))


def test_the_papers_four_variants_have_names() -> None:
    variants = {name: weights() for name, weights in ABLATIONS.items()}
    assert variants["lpips_l1"] == {"lpips": 1.0, "l1": 1.0}
    assert variants["dino"] == {"dino": 1.0}
    assert variants["sam"] == {"sam": 1.0}
    assert variants["dino_sam"] == {"dino": 1.0, "sam": 1.0}


def test_ssim_as_a_loss_is_one_for_unlike_pictures(pictures: Tensor) -> None:
    noise = torch.rand(2, 3, 64, 64)
    assert 0.8 < float(ssim_loss()(noise[:1], noise[1:])) < 1.2
