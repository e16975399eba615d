"""ArcFace (Deng et al., 2019), frozen: the identity of a face as a unit vector, from a weights file on disk.

The network is the squeeze-and-excitation IR-50 in the layout of ``model_ir_se50.pth`` (InsightFace_Pytorch), which
PercHead's and ID-TS's literature measures identity with. It wants faces cropped as it was trained: 112 x 112 pixels,
eyes, nose and mouth near ``ALIGNED_112``; ``portrait_faces`` cuts the portrait crops of this package so.

Legend: B batch.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.pretrained.tensors import fill, read_tensors

SIDE = 112  # pixels of the input picture
EMBEDDING = 512
# Where the trained crops have the eye at the left of the picture, the one at the right, nose tip and mouth corners.
ALIGNED_112 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
# The window of a portrait crop (0..1: left, top, right, bottom) that lands a frontal face near ``ALIGNED_112``: the
# crop's eyes lie at 0.419 and 0.581 across and 0.454 down (``EYES_IN_CROP`` of preprocessing), the network's
# 35.2 of 112 pixels apart at 0.461 down.
PORTRAIT_WINDOW = (0.244, 0.217, 0.757, 0.731)
_STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole picture says."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        weight = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        out: Tensor = x * weight.sigmoid()
        return out


class Bottleneck(nn.Module):
    """One residual unit; halves the picture where ``stride`` is 2."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = (
            nn.MaxPool2d(1, stride)
            if inner == outer
            else nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inner),
            nn.Conv2d(inner, outer, 3, 1, 1, bias=False),
            nn.PReLU(outer),
            nn.Conv2d(outer, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            SqueezeExcite(outer),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, inner, H, W] -> [B, outer, H / stride, W / stride]."""
        out: Tensor = self.shortcut_layer(x) + self.res_layer(x)
        return out


class ArcFace(nn.Module):
    """A frozen IR-SE50. Gradients still reach the pictures."""

    def __init__(self) -> None:
        """Random weights; ``load_arcface`` fills them."""
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units, inner = [], 64
        for outer, count in _STAGES:
            for i in range(count):
                units.append(Bottleneck(inner, outer, 2 if i == 0 else 1))
                inner = outer
        self.body = nn.Sequential(*units)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, EMBEDDING),
            nn.BatchNorm1d(EMBEDDING),
        )
        self.eval().requires_grad_(False)

    def forward(self, faces: Tensor) -> Tensor:
        """Aligned faces [B, 3, 112, 112] in 0..1 -> unit vectors [B, 512].

        Raises:
            InvalidInputError: Pictures of another size.
        """
        if faces.shape[-2:] != (SIDE, SIDE):
            raise InvalidInputError(
                f"A face is {faces.shape[-1]}x{faces.shape[-2]} pixels; this network takes {SIDE}x{SIDE}, aligned."
            )
        embedding: Tensor = self.output_layer(self.body(self.input_layer(2 * faces - 1)))
        return F.normalize(embedding, dim=-1)

    def train(self, mode: bool = True) -> ArcFace:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)


def portrait_faces(pictures: Tensor, window: tuple[float, float, float, float] = PORTRAIT_WINDOW) -> Tensor:
    """The faces of portrait crops [B, 3, S, S], as the network wants them: [B, 3, 112, 112].

    The same window is cut from every picture, whatever the head's turn, so two pictures of one view always compare
    like with like.
    """
    side = pictures.shape[-1]
    left, top, right, bottom = (round(edge * side) for edge in window)
    cut = pictures[:, :, top : max(bottom, top + 1), left : max(right, left + 1)]
    return F.interpolate(cut, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def load_arcface(path: Path | str) -> ArcFace:
    """A frozen IR-SE50 with the weights of a local file.

    Args:
        path: ``model_ir_se50.pth`` as published, or the same tensors as ``.safetensors``.

    Raises:
        MissingWeightsError: There is no such file; the message says which one is needed.
        CorruptWeightsError: The file does not hold this network.
    """
    source = Path(path)
    if not source.is_file():
        raise MissingWeightsError(
            f"There is no weights file {source.name} for ArcFace. Take model_ir_se50.pth from the project page "
            "https://github.com/TreB1eN/InsightFace_Pytorch."
        )
    network = ArcFace()
    fill(network, read_tensors(source), source.name, "IR-SE50")
    return network
