"""Pictures as photographs are: any crop, any background, any light, and things in the way.

Legend: B batch, S picture side.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg

from headlift.model.types import FOCAL
from headlift_trainer.augment import (
    apply_crop_jitter,
    degrade_image,
    sample_color_shift,
    sample_crop_jitter,
)
from headlift_trainer.headnet.data import HeadPictures

IGNORED = 255  # class of pixels that something hides
# Classes that change places in a mirror: ears, brows, eyes.
SWAPPED = ((4, 5), (6, 7), (8, 9))


@dataclass(frozen=True)
class HeadNetBatch:
    """B pictures as HeadNet gets them, and what it should answer."""

    pictures: Tensor  # [B, 3, S, S] 0..1 over their backgrounds
    classes: Tensor  # [B, S / 2, S / 2] int64; IGNORED where it is not to be judged
    alpha: Tensor  # [B, 1, S / 2, S / 2] 0..1
    viewmats: Tensor  # [B, 4, 4]
    landmarks: Tensor  # [B, L, 3] m
    people: Tensor  # [B]

    def to(self, device: torch.device) -> HeadNetBatch:
        """A copy on a device."""
        return HeadNetBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def training_sample(heads: HeadPictures, size: int, generator: torch.Generator) -> HeadNetBatch:
    """An augmented batch of pictures `size` pixels a side."""
    heads = _mirrored(heads, torch.rand(len(heads.rgba), generator=generator) < 0.5)
    count = len(heads.rgba)
    jitter = sample_crop_jitter(count, generator, FOCAL, turn=11.0, zoom=0.14, shift=0.06)
    rgba, viewmats = apply_crop_jitter(heads.rgba, heads.viewmats, jitter)
    grid = F.affine_grid(jitter.grid, [count, 1, size // 2, size // 2], align_corners=False)
    classes = F.grid_sample(heads.classes, grid, "nearest", align_corners=False)[:, 0].long()
    rgba = F.interpolate(rgba, (size, size), mode="area") if rgba.shape[-1] != size else rgba
    shift = sample_color_shift(count, generator)
    alpha = rgba[:, 3:]
    straight = (rgba[:, :3] / alpha.clamp_min(1e-3)).clamp(0, 1)
    straight = shift(straight.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * _shade(count, size, generator)
    scene = straight * alpha + (1 - alpha) * backgrounds(rgba, generator)
    pictures = degrade_image(torch.cat([scene.clamp(0, 1), torch.ones_like(alpha)], 1), generator)[:, :3]
    alpha = F.interpolate(alpha, (size // 2, size // 2), mode="area")
    pictures, classes, alpha = _cut(pictures, classes, alpha, generator)
    pictures, classes = _hide(pictures, classes, generator)
    return HeadNetBatch(_compressed(pictures, generator), classes, alpha, viewmats, heads.landmarks, heads.people)


def _mirrored(heads: HeadPictures, chosen: Tensor) -> HeadPictures:
    pick = chosen[:, None, None, None]
    swap = torch.arange(256)
    for a, b in SWAPPED:
        swap[a], swap[b] = b, a
    classes = swap[heads.classes.long()].float()
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    half = heads.landmarks.shape[1] // 2
    other = heads.landmarks.roll(half, 1) * torch.tensor([-1.0, 1.0, 1.0])
    return HeadPictures(
        torch.where(pick, heads.rgba.flip(-1), heads.rgba),
        torch.where(pick, classes.flip(-1), heads.classes),
        torch.where(chosen[:, None, None], flip @ heads.viewmats @ flip, heads.viewmats),
        torch.where(chosen[:, None, None], other, heads.landmarks),
        heads.people,
    )


def backgrounds(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 3, S, S]: black as the encoder gets it, plain, cloudy, blocky, or another picture of the batch, blurred."""
    count, _, size, _ = rgba.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    plain = uniform(count, 3, 1, 1).expand(-1, -1, size, size)
    clouds = plain * 1.0
    for cells, strength in ((3, 0.3), (8, 0.2), (24, 0.12)):
        noise = torch.randn(count, 3, cells, cells, generator=generator)
        clouds = clouds + strength * F.interpolate(noise, (size, size), mode="bilinear", align_corners=False)
    cells = int(torch.randint(3, 14, (1,), generator=generator))
    blocks = F.interpolate(uniform(count, 3, cells, cells), (size, size), mode="nearest")
    blocks = 0.6 * blocks + 0.4 * clouds
    others = rgba.roll(1, 0)
    crowd = others[:, :3] + (1 - others[:, 3:]) * plain
    far = F.interpolate(crowd, (size // 8, size // 8), mode="area")
    far = F.interpolate(far, (size, size), mode="bilinear", align_corners=False)
    kinds = torch.stack([torch.zeros_like(plain), plain, clouds, blocks, far, crowd.flip(-2)])
    odds = torch.tensor([0.35, 0.13, 0.22, 0.12, 0.12, 0.06])
    kind = torch.multinomial(odds, count, replacement=True, generator=generator)
    return kinds[kind, torch.arange(count)].clamp(0, 1)


def _shade(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Uneven light over the picture, [B, 1, S, S] about 1."""
    noise = torch.randn(count, 1, 3, 3, generator=generator)
    strength = 0.5 * torch.rand(count, 1, 1, 1, generator=generator) ** 2
    return torch.exp(strength * F.interpolate(noise, (size, size), mode="bicubic", align_corners=False))


def _cut(pictures: Tensor, classes: Tensor, alpha: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Some crops reach below the photograph: there the picture is black and nothing is to be seen."""
    count, _, size, _ = pictures.shape
    line = torch.rand(count, 1, 1, 1, generator=generator) * 0.3 + 0.72
    line = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.3, line, torch.full_like(line, 2.0))

    def above(side: int) -> Tensor:
        return ((torch.arange(side) + 0.5).view(1, 1, -1, 1) / side < line).float()

    kept = above(size // 2)
    return pictures * above(size), (classes * kept[:, 0]).long(), alpha * kept


def _hide(pictures: Tensor, classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An ellipse of some colour before a fifth of the pictures; its pixels are not judged."""
    count, _, size, _ = pictures.shape
    middle = torch.rand(count, 2, 1, 1, generator=generator)
    radius = 0.03 + 0.14 * torch.rand(count, 2, 1, 1, generator=generator)
    color = torch.rand(count, 3, 1, 1, generator=generator)
    chosen = torch.rand(count, 1, 1, generator=generator) < 0.2

    def inside(side: int) -> Tensor:
        line = (torch.arange(side) + 0.5) / side
        x, y = line.view(1, 1, -1) - middle[:, 0], line.view(1, -1, 1) - middle[:, 1]
        return ((x / radius[:, 0]) ** 2 + (y / radius[:, 1]) ** 2 < 1) & chosen

    hidden = inside(size)[:, None]
    return torch.where(hidden, color, pictures), torch.where(inside(size // 2), IGNORED, classes)


def _compressed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the pictures through JPEG."""
    out = pictures.clone()
    for i in torch.nonzero(torch.rand(len(pictures), generator=generator) < 0.33)[:, 0].tolist():
        quality = int(torch.randint(25, 95, (1,), generator=generator))
        data = encode_jpeg((pictures[i] * 255).byte(), quality)
        out[i] = decode_jpeg(data).float() / 255
    return out
