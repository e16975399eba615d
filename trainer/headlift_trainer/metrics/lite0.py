"""How different two pictures look to EfficientNet-Lite0, which learned from photographs (ImageNet).

Features after five stages, unit vectors over channels, squared differences averaged over places and summed over
stages, as LPIPS does without its learned weights. The weights are those that `headlift models install
efficientnet_lite0` fetches.

Legend: B pictures, H W pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.pretrained.catalogue import LITE0
from headlift.pretrained.installed import read_model

SIDE = 224  # pixels that the network learned with
_MIDDLE, _HALF = 127 / 255, 128 / 255  # of pictures in 0..1, as the weights were learned
# The published names of a block's parts, and timm's: the first stage widens nothing before it looks about.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHERS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


class Lite0Distance(nn.Module):
    """The frozen distance. Gradients still reach the pictures."""

    def __init__(self, published: Mapping[str, Tensor]) -> None:
        """``published`` holds the weights by their published names."""
        super().__init__()
        import timm

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self.network.load_state_dict(_renamed(published, self.network))
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor, truth: Tensor) -> Tensor:
        """Distance of [B, 3, H, W] in 0..1 from [B, 3, H, W] -> [B]; 0 for equal pictures."""
        total = pictures.new_zeros(len(pictures))
        for a, b in zip(self.features(pictures), self.features(truth), strict=True):
            total = total + (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
        return total

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Maps after the five stages, each half as large as the one before."""
        small = F.interpolate(pictures, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        found: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            (small - _MIDDLE) / _HALF, intermediates_only=True
        )
        return found


def load_lite0(folder: Path, device: torch.device | str = "cpu") -> Lite0Distance:
    """The distance from a folder of pretrained models.

    Raises:
        MissingWeightsError: `efficientnet_lite0` is not installed there.
        CorruptWeightsError: Its file is damaged, or of another version.
    """
    return Lite0Distance(read_model(LITE0, folder)[0]).to(device)


def _renamed(published: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights by timm's names; timm counts blocks anew in every stage."""
    blocks = sorted({tuple(map(int, n.split(".")[1:3])) for n in network.state_dict() if n.startswith("blocks.")})
    out = {}
    for name, value in published.items():
        head, _, rest = name.partition(".")
        if head == "_blocks":
            number, part, leaf = rest.split(".")
            stage, block = blocks[int(number)]
            out[f"blocks.{stage}.{block}.{(_OTHERS if stage else _FIRST)[part]}.{leaf}"] = value
        else:
            out[f"{_ENDS[head]}.{rest}"] = value
    return out
