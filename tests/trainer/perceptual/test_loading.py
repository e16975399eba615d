"""Losses from a folder of networks in their published layouts; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.mini.headnet import HeadNet, save_headnet
from headlift_trainer.perceptual import ABLATIONS, headnet_loss, load_perceptual
from headlift_trainer.perceptual.loading import load_lpips_term, load_sam_term

CPU = torch.device("cpu")


def test_what_needs_no_network_needs_no_folder(pictures: Tensor) -> None:
    total, parts = load_perceptual(ABLATIONS["l1_ssim"](), None, CPU)(pictures, pictures.flip(0))
    assert set(parts) == {"l1", "ssim"}
    assert float(total) > 0


def test_terms_without_weight_are_not_loaded(pictures: Tensor) -> None:
    assert list(load_perceptual({"sam": 0.0, "l1": 2.0}, None, CPU).weights) == ["l1"]


def test_headnet_comes_from_its_own_file(headnet: HeadNet, pictures: Tensor, tmp_path: Path) -> None:
    save_headnet(tmp_path / "headnet.safetensors", headnet)
    loss = load_perceptual(ABLATIONS["headnet"](), tmp_path, CPU, chunk=2, memory="recompute")
    expected = headnet_loss(headnet)(pictures, pictures.flip(0))
    torch.testing.assert_close(loss(pictures, pictures.flip(0))[0], expected, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "file"),
    [("dino", "dinov2_vits14_pretrain"), ("sam", "sam2.1_hiera_small"), ("lpips_l1", "vgg16"), ("headnet", "headnet")],
)
def test_a_missing_network_is_named(variant: str, file: str, tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(MissingWeightsError, match=file):
            load_perceptual(ABLATIONS[variant](), folder, CPU)


def test_single_terms_name_what_is_missing(tmp_path: Path) -> None:
    for load, file in ((load_sam_term, "sam2.1_hiera_small.pt"), (load_lpips_term, "vgg.pth")):
        with pytest.raises(MissingWeightsError, match=file):
            load(None, CPU)


def test_lpips_comes_from_its_two_files(pictures: Tensor, tmp_path: Path) -> None:
    from headlift_trainer.metrics.lpips import Lpips

    network = Lpips("vgg")
    state = {f"features.{k}": v for k, v in network.features.state_dict().items()}
    torch.save(state, tmp_path / "vgg16-397923af.pth")
    torch.save(
        {f"lin{i}.model.1.weight": line.detach().view(1, -1, 1, 1) for i, line in enumerate(network.lines)},
        tmp_path / "vgg.pth",
    )
    total, parts = load_perceptual(ABLATIONS["lpips_l1"](), tmp_path, CPU)(pictures, pictures.flip(0))
    torch.testing.assert_close(parts["lpips"], network(pictures, pictures.flip(0)).mean())
    torch.testing.assert_close(total, parts["lpips"] + parts["l1"])


def test_weights_that_make_no_loss_are_refused() -> None:
    for weights in ({}, {"l1": 0.0}, {"l1": -1.0}, {"taste": 1.0}):
        with pytest.raises(InvalidInputError):
            load_perceptual(weights, None, CPU)
