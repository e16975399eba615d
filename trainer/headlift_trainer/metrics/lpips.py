"""LPIPS (Zhang et al., 2018), frozen: how different two pictures look, from weights files on disk.

The features of five layers of AlexNet or VGG-16 are normalised over channels; their squared differences are weighed
channel by channel with weights learned from human judgements (version 0.1, without dropout), averaged over places and
summed over layers. Files, in one folder, as they are published:

    alexnet-owt-7be5be79.pth (or -4df8aa71)   vgg16-397923af.pth      torchvision's networks
    alex.pth                                  vgg.pth                 PerceptualSimilarity, lpips/weights/v0.1

or one file with the whole state of the ``lpips`` package's network. That package is not needed.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.pretrained.tensors import fill, read_tensors

Net = Literal["alex", "vgg"]
SMALLEST = 32  # pixels a side below which the last layers see nothing
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures in -1..1, as the weights were learned
_TAPS: Mapping[Net, tuple[int, ...]] = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # torchvision's indices
_WIDTHS: Mapping[Net, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
_VGG = (2, 2, 3, 3, 3)  # convolutions of each block
_BACKBONES: Mapping[Net, tuple[str, ...]] = {
    "alex": ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth", "alexnet.safetensors"),
    "vgg": ("vgg16-397923af.pth", "vgg16.safetensors"),
}
_LINES: Mapping[Net, tuple[str, ...]] = {
    net: (f"{net}.pth", f"{net}.safetensors", f"weights/v0.1/{net}.pth", f"v0.1/{net}.pth") for net in _TAPS
}
_PAGE = "https://github.com/richzhang/PerceptualSimilarity"


class Lpips(nn.Module):
    """The frozen distance. Gradients still reach the pictures."""

    def __init__(self, net: Net) -> None:
        """Random weights; ``load_lpips`` fills them.

        Raises:
            InvalidInputError: No such network.
        """
        super().__init__()
        if net not in _TAPS:
            raise InvalidInputError(f"There is no LPIPS network {net!r}; choose one of {', '.join(_TAPS)}.")
        self.net = net
        self._taps = _TAPS[net]
        self.features = nn.Sequential(*(_alexnet() if net == "alex" else _vgg16()))
        self.lines = nn.ParameterList(torch.rand(width) for width in _WIDTHS[net])
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Distances [B], 0 for equal pictures, of pictures [B, 3, H, W] in 0..1.

        Raises:
            InvalidInputError: A side is below 32 pixels.
        """
        return self.distance(self.layers(pictures), self.layers(others))

    def layers(self, pictures: Tensor) -> list[Tensor]:
        """Features [B, C, h, w] of the five layers, unit vectors over channels (0 where nothing answers)."""
        if min(pictures.shape[-2:]) < SMALLEST:
            raise InvalidInputError(
                f"A picture is {pictures.shape[-1]}x{pictures.shape[-2]}; LPIPS needs {SMALLEST} pixels a side."
            )
        x = (2 * pictures - 1 - self.shift) / self.scale
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self._taps:
                # vector_norm's gradient is 0 at 0, where that of a plain square root is not a number.
                y = x.float()
                found.append(y / (torch.linalg.vector_norm(y, dim=1, keepdim=True) + 1e-10))
        return found

    def distance(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Distances [B] of the features of B pictures each."""
        parts = [
            ((a - b).square() * line[:, None, None]).sum(1).mean((1, 2))
            for a, b, line in zip(ours, theirs, self.lines, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def train(self, mode: bool = True) -> Lpips:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)


def load_lpips(path: Path | str, net: Net | None = None) -> Lpips:
    """A frozen LPIPS with the weights of local files.

    Args:
        path: A folder with the two published files, or one file with the ``lpips`` package's whole state.
        net: Which network; None takes the one that is there, of both AlexNet, with which the metric is mostly reported.

    Raises:
        MissingWeightsError: A file is absent; the message says which, and where it is published.
        CorruptWeightsError: A file does not hold what its name says.
    """
    source = Path(path)
    if source.is_file():
        return _from_one_file(source, net)
    there: list[Net] = [each for each in _TAPS if _first(source, _BACKBONES[each])]
    chosen = net or (there[0] if there else "alex")
    network = Lpips(chosen)
    backbone = _existing(source, _BACKBONES[chosen], "torchvision's model pages (https://docs.pytorch.org/vision)")
    lines = _existing(source, _LINES[chosen], f"{_PAGE} (lpips/weights/v0.1)")
    weights = {key: value for key, value in read_tensors(backbone).items() if key.startswith("features.")}
    fill(network.features, _stripped(weights, "features."), backbone.name, f"the features of {chosen}")
    _fill_lines(network, read_tensors(lines), lines.name)
    return network


def _from_one_file(source: Path, net: Net | None) -> Lpips:
    """The ``lpips`` package's own state: ``net.sliceN.I.*`` with torchvision's indices, ``linN.model.1.weight``."""
    weights = read_tensors(source)
    slices = {re.sub(r"^net\.slice\d+\.", "", key): v for key, v in weights.items() if key.startswith("net.slice")}
    second = weights.get("lin1.model.1.weight")
    found: Net = "alex" if second is not None and second.shape[1] == _WIDTHS["alex"][1] else "vgg"
    if not slices or second is None or net not in {None, found}:
        raise CorruptWeightsError(
            f"{source.name} does not hold LPIPS ({net or ' or '.join(get_args(Net))}): the package's whole state has "
            "net.slice* and lin* tensors. Otherwise give a folder with the two published files."
        )
    network = Lpips(found)
    fill(network.features, slices, source.name, f"LPIPS with {found}")
    _fill_lines(network, weights, source.name)
    return network


def _fill_lines(network: Lpips, weights: Mapping[str, Tensor], file: str) -> None:
    for i, line in enumerate(network.lines):
        key = f"lin{i}.model.1.weight"
        if key not in weights or weights[key].numel() != line.numel():
            raise CorruptWeightsError(
                f"{file} is not LPIPS's weights for {network.net}: {key} must be {len(line)} long."
            )
        line.copy_(weights[key].flatten())


def _stripped(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items()}


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _existing(folder: Path, names: tuple[str, ...], where: str) -> Path:
    found = _first(folder, names)
    if found is None:
        raise MissingWeightsError(f"There is no {names[0]} in {folder.name}/ for LPIPS; it is published at {where}.")
    return found


def _alexnet() -> Iterator[nn.Module]:
    """torchvision's AlexNet up to its fifth activation."""
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
    for i, (inner, outer, kernel, stride, padding) in enumerate(shapes):
        if i in {1, 2}:
            yield nn.MaxPool2d(3, 2)
        yield nn.Conv2d(inner, outer, kernel, stride, padding)
        yield nn.ReLU()


def _vgg16() -> Iterator[nn.Module]:
    """torchvision's VGG-16 up to the last activation of its fifth block."""
    inner = 3
    for i, (outer, count) in enumerate(zip(_WIDTHS["vgg"], _VGG, strict=True)):
        if i:
            yield nn.MaxPool2d(2, 2)
        for _ in range(count):
            yield nn.Conv2d(inner, outer, 3, 1, 1)
            yield nn.ReLU()
            inner = outer
