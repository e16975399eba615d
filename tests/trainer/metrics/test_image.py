"""Metrics agree with scikit-image and with what they are defined to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift_trainer import metrics
from headlift_trainer.metrics import MetricNetworks


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 6, 5, generator=generator), (48, 40), mode="bicubic")
    truth = smooth.clamp(0, 1)
    return (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1), truth


def test_psnr_and_ssim_are_those_of_scikit_image(pictures: tuple[Tensor, Tensor]) -> None:
    picture, truth = pictures
    for i in range(len(picture)):
        a, b = (p[i].permute(1, 2, 0).numpy().astype(np.float64) for p in pictures)
        assert float(metrics.psnr(picture, truth)[i]) == pytest.approx(
            peak_signal_noise_ratio(b, a, data_range=1), abs=1e-3
        )
        expected = structural_similarity(
            a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        assert float(metrics.ssim(picture, truth)[i]) == pytest.approx(expected, abs=1e-6)


def test_a_picture_is_perfectly_like_itself(pictures: tuple[Tensor, Tensor]) -> None:
    picture, _ = pictures
    assert torch.allclose(metrics.ssim(picture, picture), torch.ones(4), atol=1e-6)
    assert torch.allclose(metrics.psnr(picture, picture), torch.full((4,), 100.0))
    assert torch.allclose(metrics.sharpness(picture, picture), torch.ones(4))


def test_metrics_do_not_care_about_mirroring_or_the_order_of_pictures(pictures: tuple[Tensor, Tensor]) -> None:
    picture, truth = pictures
    for metric in metrics.IMAGE_METRICS.values():
        value = metric(picture, truth)
        assert torch.allclose(metric(picture.flip(-1), truth.flip(-1)), value, rtol=1e-4)
        assert torch.allclose(metric(picture.flip(0), truth.flip(0)).flip(0), value, rtol=1e-4)


def test_blur_lowers_sharpness_and_noise_raises_it(pictures: tuple[Tensor, Tensor]) -> None:
    noisy, truth = pictures
    blurred = torch.nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)
    assert bool((metrics.sharpness(blurred, noisy) < 1).all())
    assert bool((metrics.sharpness(noisy, truth) > 1).all())


def test_iou_counts_overlap_over_union() -> None:
    alpha = torch.zeros(3, 1, 4, 4)
    truth = torch.zeros(3, 1, 4, 4)
    alpha[0, :, :2], truth[0, :, 1:3] = 1, 1  # one row of three in common
    alpha[1, :, :2], truth[1, :, 2:] = 1, 1
    assert metrics.mask_iou(alpha, truth).tolist() == pytest.approx([1 / 3, 0, 1])


def test_pictures_of_other_shapes_are_refused(pictures: tuple[Tensor, Tensor]) -> None:
    picture, truth = pictures
    with pytest.raises(InvalidInputError, match="of one size"):
        metrics.psnr(picture, truth[..., 1:])
    with pytest.raises(InvalidInputError, match="11 pixels"):
        metrics.ssim(picture[..., :8, :8], truth[..., :8, :8])


def test_absent_networks_are_named_and_never_scored(pictures: tuple[Tensor, Tensor]) -> None:
    networks = MetricNetworks()
    assert networks.absent == ("lpips", "dreamsim", "arcface", "csim")
    values = metrics.measure(*pictures, networks)
    assert set(values) == {"psnr", "ssim", "sharpness"}


def test_networks_at_hand_are_used_and_iou_needs_both_mattes(pictures: tuple[Tensor, Tensor]) -> None:
    class Distance(nn.Module):
        def forward(self, picture: Tensor, other: Tensor) -> Tensor:
            return (picture - other).abs().flatten(1).mean(1)

    class Identity(nn.Module):
        def forward(self, faces: Tensor) -> Tensor:
            assert faces.shape[-2:] == (112, 112)
            return torch.nn.functional.normalize(faces.mean((2, 3)), dim=-1)

    networks = MetricNetworks(lpips=Distance(), arcface=Identity())
    assert networks.absent == ("dreamsim",)
    picture, truth = (torch.cat([p, torch.ones(4, 1, 48, 40)], 1) for p in pictures)
    values = metrics.measure(picture, truth, networks)
    assert set(values) == {"psnr", "ssim", "sharpness", "iou", "lpips", "arcface", "csim"}
    assert torch.allclose(values["arcface"], 1 - values["csim"])
    assert "iou" not in metrics.measure(picture[:, :3], truth, networks)


def test_a_path_without_weights_is_an_error_not_an_absence(tmp_path) -> None:
    with pytest.raises(MissingWeightsError, match="ArcFace"):
        MetricNetworks.load(arcface=tmp_path / "model_ir_se50.pth")
