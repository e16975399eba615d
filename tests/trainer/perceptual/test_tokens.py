"""Token losses are the paper's formula, and agree with the authors' package on the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.mini.headnet import HeadNet
from headlift.pretrained.dinov2 import Architecture, Dinov2, load_dinov2
from headlift_trainer.losses import token_loss
from headlift_trainer.perceptual import PEER_FRAMING, Framing, TokenLoss, dino_loss, headnet_loss, shp_loss

SMALL = Framing(56)


def manual(network: Dinov2, pictures: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """1 - cosine of each layer's class token [C] and patches [C, P], with normalised vectors."""
    found = []
    for a, b in zip(network.features(pictures), network.features(targets), strict=True):
        products = [(F.normalize(x, dim=-1) * F.normalize(y, dim=-1)).sum(-1) for x, y in zip(a, b, strict=True)]
        found.append((1 - products[0], 1 - products[1]))
    return found


def resized(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, (56, 56), mode="bilinear", antialias=True)


def at_its_own_grid(network: Dinov2) -> Dinov2:
    """Stored for 4 x 4 patches, so that no positions are resampled."""
    changed = Dinov2(replace(network.architecture, grid=4), network.layers, "hf")
    state = network.vit.state_dict()
    changed.vit.load_state_dict(state | {"pos_embed": state["pos_embed"][:, :17]})
    return changed


def test_it_is_the_papers_formula(dino: Dinov2, pictures: Tensor) -> None:
    network, targets = at_its_own_grid(dino), pictures.flip(0)
    parts = manual(network, resized(pictures), resized(targets))
    every = torch.stack([torch.cat([c[:, None], p], 1) for c, p in parts])  # [L, C, T]
    torch.testing.assert_close(dino_loss(network, framing=SMALL)(pictures, targets), every.mean())
    kinds = torch.stack([c.mean() + p.mean() for c, p in parts]).mean() / 2
    torch.testing.assert_close(dino_loss(network, framing=SMALL, weighting="kinds")(pictures, targets), kinds)
    patches = torch.stack([p.mean() for _, p in parts]).mean()
    torch.testing.assert_close(dino_loss(network, framing=SMALL, kinds=("patches",))(pictures, targets), patches)


def test_the_sharpeners_loss_is_one_layers_class_token(dino: Dinov2, pictures: Tensor) -> None:
    network, targets = at_its_own_grid(dino), pictures.flip(0)
    expected = manual(network, resized(pictures), resized(targets))[0][0].mean()
    torch.testing.assert_close(shp_loss(network, layer=2, framing=SMALL)(pictures, targets), expected)
    with pytest.raises(InvalidInputError, match=r"loaded for \(2, 3\)"):
        shp_loss(network, framing=SMALL)


def test_the_class_token_alone_says_little_of_places(dino: Dinov2, pictures: Tensor) -> None:
    term = shp_loss(dino, layer=2, framing=SMALL)
    assert [layer.shape for layer in term.encode(pictures)] == [(3, 1, 32)]


def test_headnet_takes_the_same_form(headnet: HeadNet, pictures: Tensor) -> None:
    targets = pictures.flip(0)
    torch.testing.assert_close(
        headnet_loss(headnet, side=32)(pictures, targets), token_loss(headnet, pictures, targets, 32)
    )
    last = headnet_loss(headnet, side=64, layers=(-1,))
    torch.testing.assert_close(last.encode(pictures)[0], headnet.layers(pictures)[-1])
    with pytest.raises(InvalidInputError, match="gives 3"):
        headnet_loss(headnet, side=64, layers=(3,))(pictures, targets)


def test_settings_that_there_are_not_are_refused(dino: Dinov2) -> None:
    with pytest.raises(InvalidInputError, match="multiple of 14"):
        dino_loss(dino, framing=Framing(64))
    for wrong in ({"kinds": ()}, {"kinds": ("words",)}, {"distance": "l3"}, {"weighting": "fair"}):
        with pytest.raises(InvalidInputError, match="choose of"):
            dino_loss(dino, framing=SMALL, **wrong)  # type: ignore[arg-type]


def test_registers_are_not_compared(pictures: Tensor) -> None:
    network = Dinov2(Architecture(32, 2, 2, registers=4, grid=5), (1, 2), "hf")
    network.vit.init_weights()
    assert dino_loss(network, framing=SMALL).encode(pictures)[0].shape == (3, 1 + 16, 32)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """The authors' loss over a random DINOv2-small, and the file that both read."""
    package = pytest.importorskip("dino_loss", reason="the authors' package dino_loss is not installed")
    transformers = pytest.importorskip("transformers", reason="dino_loss needs transformers, which is not installed")
    folder = tmp_path_factory.mktemp("dinov2-small")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, "cuda", lambda self: self)  # it moves the network to a GPU whether there is one or not
        return package.DinoV2Loss(package.DinoV2LossConfig(dino_model=str(folder))), folder / "model.safetensors"


def both(peer: tuple[nn.Module, Path], distance: str) -> tuple[TokenLoss, nn.Module]:
    """Our loss as theirs is set up, and theirs."""
    theirs, file = peer
    theirs._config.dino_distance = {"l1": "l1", "cosine": "cos"}[distance]
    network = load_dinov2("dinov2_vits14", file, layers=(5, 8, 11), convention="hf")
    return dino_loss(network, framing=PEER_FRAMING, distance=distance), theirs  # type: ignore[arg-type]


def test_the_authors_package_gives_the_same_number_and_gradient(peer: tuple[nn.Module, Path]) -> None:
    pictures, targets = torch.rand(2, 1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    values, slopes = [], []
    for loss in both(peer, "l1"):
        leaf = pictures.clone().requires_grad_()
        values.append(loss(leaf, targets))
        slopes.append(torch.autograd.grad(values[-1], leaf)[0])
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=0)
    assert float((slopes[0] - slopes[1]).norm() / slopes[1].norm()) < 1e-3


def test_and_by_cosine_of_smaller_pictures_too(peer: tuple[nn.Module, Path]) -> None:
    pictures, targets = torch.rand(2, 1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = (loss(pictures, targets) for loss in both(peer, "cosine"))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
