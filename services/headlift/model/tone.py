"""Black-and-white and toned portraits: the head takes the portrait's tone.

A network that learned from colour pictures paints lips and noses red. Where every colour of the portrait follows from
its brightness, so does every colour of its head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SIDE = 96  # px; the noise of scans and of JPEG averages out
_SURE = 0.95  # alpha from which a pixel is the person's own
_FEWEST = 64  # pixels, or nothing is said
_ONE_TONE, _COLORED = 0.004, 0.008  # root mean square of what brightness does not explain; photographs have over 0.012
_PRIOR = 1e-5  # of the pixels: keeps tones of a brightness that the portrait hardly shows near grey


@torch.no_grad()
def toned(colors: Tensor, pixels: Tensor) -> Tensor:
    """Colours [N, 3] in the one tone of a portrait; unchanged if it has more than one.

    Args:
        colors: [N, 3] 0..1.
        pixels: [1, 4, S, S] RGB multiplied by alpha, and alpha.
    """
    small = F.interpolate(pixels.float(), (_SIDE, _SIDE), mode="area")[0]
    own = small[3] >= _SURE
    if int(own.sum()) < _FEWEST:
        return colors
    seen = (small[:3, own] / small[3, own]).mT
    powers, tint = _powers_and_tint(seen)
    ridge = _PRIOR * len(seen) * torch.eye(powers.shape[1]).to(powers)
    by_power = torch.linalg.solve(powers.mT @ powers + ridge, powers.mT @ tint)
    unexplained = float((tint - powers @ by_power).square().mean().sqrt())
    strength = min(max((_COLORED - unexplained) / (_COLORED - _ONE_TONE), 0.0), 1.0)
    if not strength:
        return colors
    powers, tint = _powers_and_tint(colors.float())
    return torch.lerp(colors, (colors - tint + powers @ by_power).clamp(0, 1).to(colors), strength)


def _powers_and_tint(colors: Tensor) -> tuple[Tensor, Tensor]:
    """Of colours [n, 3]: brightness to the powers 0, 1, 2, and what differs from grey, [n, 3] each."""
    brightness = colors @ colors.new_tensor(_LUMA)[:, None]
    return brightness ** torch.arange(3).to(brightness), colors - brightness
