"""Making rendered portraits look taken: bad crops, bad mattes, odd light, blur, noise and JPEG.

Colour changes of the whole scene (exposure, white balance, contrast, saturation) come as a `ColorShift`, which is
applied to the targets too: the head should have the colours that the picture shows. Everything else touches the
input only. Legend: B batch, S side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ColorShift:
    """A scene-wide change of colours, one per sample."""

    gain: Tensor  # [B, 3]
    gamma: Tensor  # [B, 1]
    saturation: Tensor  # [B, 1]
    lift: Tensor  # [B, 1] haze: black is raised to this

    def __call__(self, colors: Tensor) -> Tensor:
        """Shift straight (not premultiplied) colours [B, ..., 3] in 0..1."""
        shape = (len(colors),) + (1,) * (colors.dim() - 2)
        out = colors.clamp(1e-4, 1) ** self.gamma.view(*shape, 1) * self.gain.view(*shape, 3)
        grey = out.mean(-1, keepdim=True)
        out = grey + (out - grey) * self.saturation.view(*shape, 1)
        return (self.lift.view(*shape, 1) + (1 - self.lift.view(*shape, 1)) * out).clamp(0, 1)

    def repeated(self, times: int) -> ColorShift:
        """Each sample's shift, `times` times in a row."""
        values = (self.gain, self.gamma, self.saturation, self.lift)
        return ColorShift(*(value.repeat_interleave(times, 0) for value in values))


def sample_color_shift(count: int, generator: torch.Generator) -> ColorShift:
    """Draw shifts: exposure within about a third of a stop, mild white balance, contrast and saturation."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return ColorShift(
        gain=torch.exp(0.2 * normal(count, 1) + 0.06 * normal(count, 3)),
        gamma=torch.exp(0.18 * normal(count, 1)),
        saturation=(1 + 0.2 * normal(count, 1)).clamp(0.3, 1.6),
        lift=(0.03 * normal(count, 1)).clamp(0, 0.08),
    )


@dataclass(frozen=True)
class CropJitter:
    """A wrong crop: the crop turned, scaled and shifted, as the pixel map and as the camera that sees it so."""

    grid: Tensor  # [B, 2, 3] for affine_grid: new crop -> old crop, -1..1
    roll: Tensor  # [B, 3, 3] turn about the optical axis
    zoom: Tensor  # [B] how much larger the head has become
    pan: Tensor  # [B, 3, 3] turn that shifts the picture, after roll and zoom


def sample_crop_jitter(
    count: int, generator: torch.Generator, focal: float, *, turn: float = 8.0, zoom: float = 0.1, shift: float = 0.05
) -> CropJitter:
    """Draw crop errors; `turn` degrees, `zoom` log, `shift` crop widths, all standard deviations.

    A shift of the picture is a turn of the camera about its own centre, to first order; a zoom a change of distance.
    """
    angle = torch.randn(count, generator=generator) * math.radians(turn)
    scale = torch.exp(torch.randn(count, generator=generator) * zoom)
    dx, dy = (torch.randn(2, count, generator=generator) * shift).clamp(-2.5 * shift, 2.5 * shift)
    cos, sin = angle.cos(), angle.sin()
    # new pixel p' = scale * R p + d (in crop widths from the middle); affine_grid wants old from new, in half widths
    grid = torch.stack(
        [
            torch.stack([cos / scale, sin / scale, -2 * (cos * dx + sin * dy) / scale], -1),
            torch.stack([-sin / scale, cos / scale, -2 * (-sin * dx + cos * dy) / scale], -1),
        ],
        1,
    )
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    roll = torch.stack(
        [torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1), torch.stack([zero, zero, one], -1)], 1
    )
    return CropJitter(grid, roll, scale, pan_and_tilt(dx / focal, dy / focal))


def pan_and_tilt(dx: Tensor, dy: Tensor) -> Tensor:
    """Turns [B, 3, 3] of cameras about their own centres that shift the picture by dx, dy [B], in focal lengths."""
    ax, ay = torch.atan(dx), torch.atan(dy)
    zero, one = torch.zeros_like(ax), torch.ones_like(ax)
    pan = torch.stack(
        [
            torch.stack([ax.cos(), zero, ax.sin()], -1),
            torch.stack([zero, one, zero], -1),
            torch.stack([-ax.sin(), zero, ax.cos()], -1),
        ],
        1,
    )
    tilt = torch.stack(
        [
            torch.stack([one, zero, zero], -1),
            torch.stack([zero, ay.cos(), ay.sin()], -1),
            torch.stack([zero, -ay.sin(), ay.cos()], -1),
        ],
        1,
    )
    return tilt @ pan


def apply_crop_jitter(rgba: Tensor, viewmats: Tensor, jitter: CropJitter) -> tuple[Tensor, Tensor]:
    """Pictures [B, 4, S, S] and cameras [B, 4, 4] after a crop jitter."""
    grid = F.affine_grid(jitter.grid, list(rgba.shape), align_corners=False)
    out = viewmats.clone()
    out[:, :3] = jitter.roll @ viewmats[:, :3]
    out[:, 2, 3] /= jitter.zoom
    out[:, :3] = jitter.pan @ out[:, :3]
    return F.grid_sample(rgba, grid, align_corners=False), out


def _smooth_noise(count: int, cells: int, size: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(count, 1, cells, cells, generator=generator)
    return F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)


def degrade_matte(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Mattes as real matting gives them: edges off by a few pixels, bites, and background colour leaking in.

    Args:
        rgba: Premultiplied [B, 4, S, S].
    """
    count, _, size, _ = rgba.shape
    alpha = rgba[:, 3:4]
    radius = int(torch.randint(0, 4, (1,), generator=generator)) * 2 + 1
    soft = F.avg_pool2d(alpha, radius * 2 + 1, 1, radius, count_include_pad=False)
    threshold = 0.5 + 0.35 * _smooth_noise(count, 8, size, generator).clamp(-1, 1)
    wrong = ((soft - threshold) * (radius + 2) + 0.5).clamp(0, 1)
    mixed = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.6, wrong, alpha)
    background = torch.rand(count, 3, 1, 1, generator=generator) + 0.2 * _smooth_noise(count, 6, size, generator)
    scene = rgba[:, :3] + (1 - alpha) * background.clamp(0, 1)
    return torch.cat([scene * mixed, mixed], 1) * _within_photo(count, size, generator)


def _within_photo(count: int, size: int, generator: torch.Generator) -> Tensor:
    """1 inside the photograph, 0 where the crop reaches past its border, [B, 1, S, S]: some end above the shoulders."""
    line = torch.rand(count, 1, 1, 1, generator=generator) * 0.35 + 0.78
    slope = torch.randn(count, 1, 1, 1, generator=generator) * 0.05
    grid = (torch.arange(size) + 0.5) / size
    return (grid.view(1, 1, -1, 1) < line + slope * (grid.view(1, 1, 1, -1) - 0.5)).float()


def degrade_image(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, low resolution and noise, one choice per batch and one strength per sample."""
    count, _, size, _ = rgba.shape
    choice = float(torch.rand(1, generator=generator))
    if choice < 0.25:
        smaller = int(size * float(torch.empty(1).uniform_(0.35, 0.9, generator=generator)))
        low = F.interpolate(rgba, size=(smaller, smaller), mode="area")
        rgba = F.interpolate(low, size=(size, size), mode="bilinear", align_corners=False)
    elif choice < 0.4:
        rgba = F.avg_pool2d(F.pad(rgba, (1, 1, 1, 1), mode="replicate"), 3, 1)
    strength = 0.017 * torch.rand(count, 1, 1, 1, generator=generator) ** 2
    noise = torch.randn(count, 3, size, size, generator=generator) * strength * 2
    rgb = (rgba[:, :3] + noise * rgba[:, 3:4]).clamp(0, 1)
    return torch.cat([torch.minimum(rgb, rgba[:, 3:4].clamp(0, 1)), rgba[:, 3:4].clamp(0, 1)], 1)
