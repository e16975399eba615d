"""dlib's face recognition ResNet in plain torch: who a face is, as 128 numbers. CC0; for evaluation.

The serialised file is read without dlib. Faces of one person lie within .6 of each other (the author's threshold).

Legend: B faces.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError

SIDE = 150  # pixels of a face
_MEAN = (122.782, 117.001, 104.298)  # of 255
# Width of each level, and which of its blocks halve the picture.
_LEVELS = (
    (32, (False, False, False)), (64, (True, False, False, False)), (128, (True, False, False)),
    (256, (True, False, False)), (256, (True,)),
)  # fmt: skip
_NUMBERS = 128


class DlibFace(nn.Module):
    """The network; frozen, gradients reach the pictures."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """``weights`` as ``convert`` gives them."""
        super().__init__()
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value.float())

    def forward(self, pictures: Tensor) -> Tensor:
        """Faces [B, 3, SIDE, SIDE] sRGB 0..1, eyes level -> [B, 128]."""
        x = (255 * pictures - pictures.new_tensor(_MEAN)[:, None, None]) / 256
        x = F.max_pool2d(F.relu(self._conv(x, "stem", 2, 0)), 3, 2)
        for level, (_, blocks) in enumerate(_LEVELS):
            for block, halves in enumerate(blocks):
                x = self._block(x, f"l{level}_{block}", halves)
        out: Tensor = x.mean((2, 3)) @ self.get_buffer("fc")
        return out

    def _block(self, x: Tensor, name: str, halves: bool) -> Tensor:
        y = F.relu(self._conv(x, name + "_a", 2 if halves else 1, 0 if halves else 1))
        y = self._conv(y, name + "_b", 1, 1)
        shortcut = F.avg_pool2d(x, 2, 2) if halves else x
        shape = [max(a, b) for a, b in zip(y.shape[1:], shortcut.shape[1:], strict=True)]
        return F.relu(_grown(y, shape) + _grown(shortcut, shape))

    def _conv(self, x: Tensor, name: str, stride: int, padding: int) -> Tensor:
        weight, bias, gamma, beta = (self.get_buffer(f"{name}_{k}") for k in ("weight", "bias", "gamma", "beta"))
        return F.conv2d(x, weight, bias, stride, padding) * gamma[:, None, None] + beta[:, None, None]


def convert(data: bytes) -> dict[str, Tensor]:
    """The weights by name: convolutions (filters, biases) and affine layers (gammas, betas).

    Raises:
        CorruptWeightsError: The file holds another network.
    """
    found = [torch.from_numpy(a.copy()) for a in _arrays(data)]
    names, before = [("stem", 32, 3, 7)], 32
    for level, (width, blocks) in enumerate(_LEVELS):
        for block in range(len(blocks)):
            names += [(f"l{level}_{block}_a", width, before, 3), (f"l{level}_{block}_b", width, width, 3)]
            before = width
    if len(found) != 2 * len(names) + 1:
        raise CorruptWeightsError(f"The file has {len(found)} arrays; dlib's face network has {2 * len(names) + 1}.")
    out = {"fc": found[-1].reshape(before, _NUMBERS)}
    for (name, n, c, k), conv, affine in zip(names, found[:-1:2], found[1::2], strict=True):
        filters = n * c * k * k
        out[f"{name}.weight"] = conv[:filters].reshape(n, c, k, k).contiguous()
        out[f"{name}.bias"] = conv[filters:].contiguous()
        out[f"{name}.gamma"], out[f"{name}.beta"] = affine[:n].contiguous(), affine[n:].contiguous()
    return out


def _grown(x: Tensor, shape: list[int]) -> Tensor:
    """Zeros where the other branch has more channels, rows or columns."""
    c, h, w = shape
    return F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2], 0, c - x.shape[1]))


def _arrays(data: bytes) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Every array of numbers in dlib's serialisation, in the file's order: version 2, four sizes, floats."""
    found, at = [], 0
    while (at := data.find(b"\x01\x02", at)) >= 0:
        place = at + 2
        sizes: list[int] = []
        while len(sizes) < 4 and (read := _number(data, place)) is not None:
            sizes.append(read[0])
            place = read[1]
        count = math.prod(sizes)
        at += 1
        if len(sizes) == 4 and 30 <= count < 3_000_000 and place + 4 * count <= len(data):
            values = np.frombuffer(data, "<f4", count, place)
            # Bytes that look like a header by chance are followed by no plausible weights.
            if np.isfinite(values).all() and 1e-6 < np.abs(values).max() < 1e4 and (values == 0).mean() < 0.5:
                found.append(values)
                at = place + 4 * count
    return found


def _number(data: bytes, at: int) -> tuple[int, int] | None:
    """A whole number that is not negative, and where the next one begins; None where there is none."""
    if at >= len(data) or data[at] > 8:
        return None
    end = at + 1 + data[at]
    return int.from_bytes(data[at + 1 : end], "little"), end


# dlib's chip of a face without its padding: outer and inner corner of the eye right in the picture, the same of the
# other one, base of the nose; and the mesh's points that are there.
_CHIP = ((0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278))
_CHIP_POINTS = (263, 362, 33, 133, 2)
_CHIP_PADDING = 0.25


def face_chips(pictures: Tensor, points: Tensor) -> Tensor:
    """Faces cut out as ``DlibFace`` wants them.

    Args:
        pictures: [B, 3, S, S].
        points: [B, 478, 2] of the face mesh, 0..1 of the picture.

    Returns:
        [B, 3, SIDE, SIDE].
    """
    chip = (points.new_tensor(_CHIP) + _CHIP_PADDING) / (1 + 2 * _CHIP_PADDING)
    seen = points[:, _CHIP_POINTS]
    middle, center = chip.mean(0), seen.mean(1, keepdim=True)
    a, b = chip - middle, seen - center
    # The similarity from chip to picture in least squares: turn and scale as one complex number.
    energy = a.square().sum()
    c = (a * b).sum((1, 2)) / energy
    s = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / energy
    turn = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], 1)  # row vectors
    fine = 2 * SIDE
    line = (torch.arange(fine, dtype=points.dtype, device=points.device) + 0.5) / fine
    at = torch.stack([line.repeat(fine), line.repeat_interleave(fine)], -1) - middle
    grid = (at @ turn + center).reshape(len(points), fine, fine, 2) * 2 - 1
    return F.avg_pool2d(F.grid_sample(pictures, grid, align_corners=False), 2)
