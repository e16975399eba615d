"""HeadNet: shapes, files, and that what it says can be learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.mini.config import HeadNetConfig
from headlift.model.mini.headnet import HeadNet, load_headnet, save_headnet

TINY = HeadNetConfig(32, 2, 2, 2.0, 12, 8, (8, 8, 16), 8)


@pytest.fixture
def net() -> HeadNet:
    torch.manual_seed(0)
    return HeadNet(TINY, torch.arange(12)).eval()


@pytest.mark.parametrize("side", [32, 64])
def test_every_answer_has_its_shape_at_any_size(net: HeadNet, side: int) -> None:
    said, layers = net.read(torch.rand(2, 3, side, side))
    assert said.parsing.shape == (2, 19, side // 2, side // 2)
    assert said.alpha.shape == (2, 1, side // 2, side // 2)
    assert said.landmarks.shape == (2, 12, 2)
    assert said.spread.shape == (2, 12)
    assert said.pose.shape == (2, 9)
    torch.testing.assert_close(said.identity.norm(dim=1), torch.ones(2))
    assert [tuple(layer.shape) for layer in layers] == [(2, 1 + (side // 16) ** 2, 32)] * 2


def test_pictures_do_not_see_each_other(net: HeadNet) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    together, alone = net(pictures), net(pictures[1:2])
    torch.testing.assert_close(together.parsing[1:2], alone.parsing, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.landmarks[1:2], alone.landmarks, atol=1e-5, rtol=1e-4)


def test_layers_are_those_of_a_whole_pass(net: HeadNet) -> None:
    pictures = torch.rand(1, 3, 32, 32)
    (last,) = net.layers(pictures, [1])
    torch.testing.assert_close(last, net.read(pictures)[1][1])


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (1, 3, 32, 48), (1, 3, 40, 40)])
def test_other_pictures_are_refused(net: HeadNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="multiple of 16"):
        net(torch.zeros(shape))


def test_a_file_gives_the_network_back_in_half_precision(net: HeadNet, tmp_path: Path) -> None:
    save_headnet(tmp_path / "net.safetensors", net)
    again = load_headnet(tmp_path / "net.safetensors")
    assert again.config == TINY
    assert again.landmark_rows.tolist() == list(range(12))
    assert not any(p.requires_grad for p in again.parameters())
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(picture).parsing, net(picture).parsing, atol=0.02, rtol=0.02)


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"nothing\.safetensors"):
        load_headnet(tmp_path / "nothing.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 10)
    with pytest.raises(InvalidInputError, match=r"noise\.safetensors"):
        load_headnet(tmp_path / "noise.safetensors")


def test_a_few_steps_find_a_bright_spot() -> None:
    """Landmark 0 follows a spot about the picture: the soft maximum can be trained."""
    torch.manual_seed(0)
    net, gen = HeadNet(TINY), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    line = (torch.arange(32) + 0.5) / 32

    def off(count: int) -> torch.Tensor:
        place = 0.2 + 0.6 * torch.rand(count, 2, generator=gen)
        x, y = line.view(1, 1, -1) - place[:, :1, None], line.view(1, -1, 1) - place[:, 1:, None]
        spot = torch.exp(-(x**2 + y**2) / 0.005)[:, None].expand(-1, 3, -1, -1)
        return (net(spot).landmarks[:, 0] - place).norm(dim=1).mean()

    before = float(off(64).detach())
    for _ in range(60):
        optimizer.zero_grad()
        off(16).backward()
        optimizer.step()
    assert float(off(64).detach()) < 0.5 * before
