"""What photographs from the wild do to a picture beyond `augment`: uneven and coloured light, things before the face,
defocus and motion, sensors and JPEG.

Only the input changes: the head that is asked for is the clean one. Crops, mattes and scene-wide colour are `augment`'s
part, with the camera that belongs to them. Legend: B batch, S side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg

_HIDDEN = 0.3  # share of the pictures with something before the head
_COMPRESSED = 0.5
_BLURRED = 0.3
_TAPS = 9  # pixels of a motion blur, at most


def simulate_capture(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Premultiplied pictures [B, 4, S, S] as a casual photographer takes them."""
    rgba = hide(light(rgba, generator), generator)
    return compress(blur(rgba, generator), generator)


def light(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Coloured light that falls off over the picture; colour and strength are drawn for each."""
    count, _, size, _ = rgba.shape
    noise = F.interpolate(
        torch.randn(count, 1, 3, 3, generator=generator), (size, size), mode="bicubic", align_corners=False
    )
    tint = 0.12 * torch.randn(count, 3, 1, 1, generator=generator)
    strength = 0.5 * torch.rand(count, 1, 1, 1, generator=generator) ** 2
    rgb = rgba[:, :3] * torch.exp(noise * (strength + tint * strength))
    return torch.cat([torch.minimum(rgb, rgba[:, 3:]), rgba[:, 3:]], 1)


def hide(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """A hand, a phone, a strand: an ellipse of one colour before some heads; mattes take it for part of the head."""
    count, _, size, _ = rgba.shape
    turn = math.pi * torch.rand(count, 1, 1, generator=generator)
    middle = torch.rand(count, 2, 1, 1, generator=generator)
    radius = 0.02 + 0.16 * torch.rand(count, 2, 1, 1, generator=generator)
    color = torch.rand(count, 3, 1, 1, generator=generator)
    line = (torch.arange(size) + 0.5) / size
    x, y = line.view(1, 1, -1) - middle[:, 0], line.view(1, -1, 1) - middle[:, 1]
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    inside = (along / radius[:, 0]) ** 2 + (across / radius[:, 1]) ** 2 < 1
    inside &= torch.rand(count, 1, 1, generator=generator) < _HIDDEN
    hidden = inside[:, None].float()
    return torch.cat([rgba[:, :3] * (1 - hidden) + color * hidden, torch.maximum(rgba[:, 3:], hidden)], 1)


def blur(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Motion, along one of four directions, of some pictures."""
    out = rgba.clone()
    for i in torch.nonzero(torch.rand(len(rgba), generator=generator) < _BLURRED)[:, 0].tolist():
        taps = int(torch.randint(3, _TAPS + 1, (1,), generator=generator)) // 2 * 2 + 1
        kernel = torch.zeros(taps, taps)
        line = torch.arange(taps)
        direction = int(torch.randint(4, (1,), generator=generator))
        rows, columns = (
            (line * 0 + taps // 2, line),
            (line, line * 0 + taps // 2),
            (line, line),
            (line, line.flip(0)),
        )[direction]
        kernel[rows, columns] = 1 / taps
        out[i] = F.conv2d(rgba[i][:, None], kernel[None, None], padding=taps // 2)[:, 0]
    return out


def compress(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """JPEG over a plain background, which bleeds into the edges, for half of the pictures."""
    out = rgba.clone()
    for i in torch.nonzero(torch.rand(len(rgba), generator=generator) < _COMPRESSED)[:, 0].tolist():
        quality = int(torch.randint(15, 90, (1,), generator=generator))
        behind = torch.rand(3, 1, 1, generator=generator)
        rgb, alpha = rgba[i, :3], rgba[i, 3:]
        scene = (255 * (rgb + (1 - alpha) * behind)).clamp(0, 255).byte()
        back = decode_jpeg(encode_jpeg(scene, quality)).float() / 255
        # Where the head is thin the background cannot be told from it; there the matte decides.
        out[i, :3] = torch.minimum((back - (1 - alpha) * behind).clamp_min(0), alpha)
    return out
