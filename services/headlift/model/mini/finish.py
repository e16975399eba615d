"""The finish of a decoded head: no holes, and the one tone of a portrait that has but one.

Discs overlap, and in the face a wide disc lies under the skin for every few fine ones upon it.

Through a gap in the face one sees the inside of the back of the head: dark specks, the more of them the closer one
looks. Hair and clothes lose nothing by discs that are wide enough to overlap their neighbours; an iris drowns in them.
So in the face every fourth Gaussian gives its detail up: it sinks below the surface and grows until it lies under the
gaps of its neighbours, which then show the colour of the skin. Ours, and for finished heads: a decoder trained with
wider discs in the loop collapsed, at a rate that is fine without.

A network that learned from colour pictures paints lips and noses red. Where every colour of a black-and-white or toned
portrait follows from its brightness, so does every colour of its head.

Legend: N Gaussians, S portrait side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.mini.parsing_groups import SURE
from headlift.model.types import Gaussians

_BENEATH_STRIDE = 4  # how many-th Gaussian lies beneath; divides half of every template, so mirror images do alike
_BENEATH_M = 0.003  # less lets it blur what is in front, for splats are sorted by their middles
_BENEATH_WIDTH, _UPON_WIDTH = 1.5, 0.5  # of discs in the face, as shares of those elsewhere
_NEAREST = 6  # neighbours that surround a Gaussian
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_TONE_SIDE = 96  # px; the noise of scans and of JPEG averages out
_MIN_PIXELS = 64  # or nothing is said of the tone
_COLOR_RMS = 0.008  # root mean square of what brightness does not explain; one tone has less, photographs over .012
_TONE_RIDGE = 1e-5  # of the pixels: keeps tones of a brightness that the portrait hardly shows near grey


@torch.no_grad()
def fill_holes(head: Gaussians, neighbors: Tensor, normals: Tensor, face: Tensor, min_overlap: float) -> Gaussians:
    """The head with discs of at least ``min_overlap`` times the distance to their neighbours; thicknesses stay.

    In the face, every fourth is half as wide again and lies beneath the others, which may be half as wide.

    Args:
        head: N Gaussians.
        neighbors: [N, 8] int64, those of the template. normals: [N, 3], outwards. face: [N] bool, what has detail.
        min_overlap: Smallest scale along the two larger axes, over the mean distance to the six nearest neighbours.
    """
    apart = (head.means[neighbors] - head.means[:, None]).norm(dim=-1)
    spacing = apart.topk(_NEAREST, dim=1, largest=False).values.mean(1, keepdim=True)
    beneath = face & (torch.arange(len(face), device=face.device) % _BENEATH_STRIDE == 0)
    share = torch.where(beneath, _BENEATH_WIDTH, torch.where(face, _UPON_WIDTH, 1.0))
    values, axes = head.scales.topk(2, dim=1)
    return replace(
        head,
        means=head.means - _BENEATH_M * normals * beneath[:, None],
        scales=head.scales.scatter(1, axes, torch.maximum(values, min_overlap * share[:, None] * spacing)),
    )


@torch.no_grad()
def match_monochrome(colors: Tensor, pixels: Tensor) -> Tensor:
    """Colours [N, 3] in the one tone of a portrait; unchanged if it has more than one.

    Args:
        colors: [N, 3] 0..1.
        pixels: [1, 4, S, S] RGB multiplied by alpha, and alpha.
    """
    small = F.interpolate(pixels.float(), (_TONE_SIDE, _TONE_SIDE), mode="area")[0]
    own = small[3] > SURE
    if int(own.sum()) < _MIN_PIXELS:
        return colors
    visible = (small[:3, own] / small[3, own]).mT
    powers, tint = _powers_and_tint(visible)
    ridge = _TONE_RIDGE * len(visible) * torch.eye(powers.shape[1]).to(powers)
    by_power = torch.linalg.solve(powers.mT @ powers + ridge, powers.mT @ tint)
    unexplained = float((tint - powers @ by_power).square().mean().sqrt())
    if unexplained > _COLOR_RMS:
        return colors
    powers, tint = _powers_and_tint(colors.float())
    toned: Tensor = (colors - tint + powers @ by_power).clamp(0, 1).to(colors)
    return toned


def _powers_and_tint(colors: Tensor) -> tuple[Tensor, Tensor]:
    """Of colours [n, 3]: brightness to the powers 0, 1, 2, and what differs from grey, [n, 3] each."""
    brightness = colors @ colors.new_tensor(_LUMA)[:, None]
    return brightness ** torch.arange(3).to(brightness), colors - brightness
