"""TorchScript archives are read before they run."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift.pretrained.torchscript import load_script

PAGE = "https://example.org"


class Doubles(nn.Module):
    """Harmless."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


class Writes(nn.Module):
    """Would write a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "taken.bin")
        return x


class Reads(nn.Module):
    """Would read a file of this machine."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("secret.bin", False, 4)


def saved(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises its own exporter in TorchScript's place
        torch.jit.script(module).save(str(path))
    return path


def test_a_network_is_loaded_frozen(tmp_path):
    network = load_script(saved(Doubles(), tmp_path / "net.pt"), "Doubles", PAGE)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert float(network(torch.tensor(3.0))) == 6.0


@pytest.mark.parametrize("module", [Writes(), Reads()])
def test_an_archive_that_touches_files_is_not_opened(module, tmp_path):
    path = saved(module, tmp_path / "net.pt")
    with pytest.raises(CorruptWeightsError, match="which Doubles does not need"):
        load_script(path, "Doubles", PAGE)
    assert not (tmp_path / "taken.bin").exists()


def test_absent_files_and_other_files_are_typed_errors(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no weights file none\.pt for Doubles\. Take it from"):
        load_script(tmp_path / "none.pt", "Doubles", PAGE)
    (tmp_path / "text.pt").write_text("not an archive")
    with pytest.raises(CorruptWeightsError, match=r"text.pt is not a TorchScript archive"):
        load_script(tmp_path / "text.pt", "Doubles", PAGE)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "table.pt")
    with pytest.raises(CorruptWeightsError, match="a table of weights"):
        load_script(tmp_path / "table.pt", "Doubles", PAGE)
    whole = saved(Doubles(), tmp_path / "whole.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptWeightsError, match=r"half.pt"):
        load_script(tmp_path / "half.pt", "Doubles", PAGE)
