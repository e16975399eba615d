"""LPIPS is its formula over torchvision's networks, from every published layout of files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift_trainer.metrics.lpips import Lpips, Net, load_lpips

FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
SLICES = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30)}  # where the package cuts torchvision's networks


def backbone(net: Net) -> nn.Sequential:
    """torchvision's own features, without the large classifier behind them."""
    if net == "vgg":
        from torchvision.models.vgg import cfgs, make_layers

        return make_layers(cfgs["D"])
    return torchvision.models.alexnet(weights=None).features


def lines(net: Net) -> dict[str, Tensor]:
    widths = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}[net]
    return {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}


@pytest.fixture(params=["alex", "vgg"])
def net(request: pytest.FixtureRequest) -> Net:
    return request.param


@pytest.fixture
def folder(net: Net, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = {f"features.{k}": v for k, v in backbone(net).state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(2)}, tmp_path / FILES[net])
    torch.save(lines(net), tmp_path / f"{net}.pth")
    return tmp_path


def test_the_distance_is_the_papers_formula(net: Net, folder: Path) -> None:
    network = load_lpips(folder, net)
    theirs = backbone(net)
    theirs.load_state_dict({k[9:]: v for k, v in torch.load(folder / FILES[net]).items() if k.startswith("features.")})
    weights = torch.load(folder / f"{net}.pth")
    pictures = torch.rand(2, 2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    shift, scale = (torch.tensor(x).view(3, 1, 1) for x in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    x, expected, start = (2 * pictures.flatten(0, 1) - 1 - shift) / scale, torch.zeros(2), 0
    with torch.no_grad():
        for i, end in enumerate(SLICES[net]):
            x = theirs[start:end](x)
            unit = (x / x.square().sum(1, keepdim=True).sqrt().add(1e-10)).unflatten(0, (2, 2))
            expected += ((unit[0] - unit[1]) ** 2 * weights[f"lin{i}.model.1.weight"][0]).sum(1).mean((1, 2))
            start = end
        torch.testing.assert_close(network(*pictures), expected)


def test_one_file_with_the_packages_whole_state_gives_the_same(net: Net, folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / f"{net}.pth")
    state |= {k.replace("lin", "lins.", 1): v for k, v in state.items()}  # the package lists them twice
    state |= {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.zeros(1, 3, 1, 1)}
    for key, value in torch.load(folder / FILES[net]).items():
        if key.startswith("features."):
            index = int(re.findall(r"\d+", key)[0])
            cut = 1 + sum(index >= end for end in SLICES[net])
            state[key.replace("features.", f"net.slice{cut}.")] = value
    torch.save(state, tmp_path / "whole.pth")
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / "whole.safetensors")
    a, b = torch.rand(2, 1, 3, 40, 40)
    expected = load_lpips(folder)(a, b)
    for name in ("whole.pth", "whole.safetensors"):
        network = load_lpips(tmp_path / name)
        assert network.net == net
        assert torch.equal(network(a, b), expected)


def test_equal_pictures_are_at_distance_zero_and_gradients_stay_finite_where_nothing_answers(net: Net) -> None:
    torch.manual_seed(0)
    network = Lpips(net)
    with torch.no_grad():
        for p in network.features.parameters():  # no activation anywhere behind the first layer
            p.copy_(-p.abs())
    picture = torch.rand(2, 3, 64, 64, requires_grad=True)
    assert torch.equal(network(picture, picture.detach()), torch.zeros(2))
    network(picture, torch.rand(2, 3, 64, 64)).sum().backward()
    assert picture.grad is not None
    assert bool(picture.grad.isfinite().all())


def test_of_both_networks_alexnet_is_taken_unless_one_is_named(tmp_path: Path) -> None:
    for net in ("alex", "vgg"):
        torch.save({f"features.{k}": v for k, v in backbone(net).state_dict().items()}, tmp_path / FILES[net])
        (tmp_path / "weights/v0.1").mkdir(parents=True, exist_ok=True)
        torch.save(lines(net), tmp_path / f"weights/v0.1/{net}.pth")
    assert load_lpips(tmp_path).net == "alex"
    assert load_lpips(tmp_path, "vgg").net == "vgg"


def test_files_that_do_not_hold_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="alexnet-owt"):
        load_lpips(tmp_path)
    torch.save({f"features.{k}": v for k, v in backbone("alex").state_dict().items()}, tmp_path / FILES["alex"])
    with pytest.raises(MissingWeightsError, match=r"alex\.pth.*PerceptualSimilarity"):
        load_lpips(tmp_path)
    torch.save(lines("vgg"), tmp_path / "alex.pth")
    with pytest.raises(CorruptWeightsError, match=r"lin1\.model\.1\.weight must be 192"):
        load_lpips(tmp_path)
    with pytest.raises(CorruptWeightsError, match="does not hold LPIPS"):
        load_lpips(tmp_path / "alex.pth")
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / FILES["vgg"])
    (tmp_path / "vgg.pth").write_bytes((tmp_path / "alex.pth").read_bytes())
    with pytest.raises(CorruptWeightsError, match="must be"):
        load_lpips(tmp_path, "vgg")


def test_pictures_and_names_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="32 pixels"):
        Lpips("alex")(torch.zeros(1, 3, 31, 64), torch.zeros(1, 3, 31, 64))
    with pytest.raises(InvalidInputError, match="choose one of"):
        Lpips("squeeze")  # type: ignore[arg-type]
