"""Bake: a short fit of the Gaussians to their own sharpened views, for files that are drawn without a sharpener.

The sharpener works on pictures, so a file alone is softer than what the server shows. Colours, opacities and scales
follow its pictures from a ring of views; means and rotations stay, since letting them move helps the fitted views and
harms those between. This is not in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from headlift.errors import InvalidGaussiansError
from headlift.model.adam import Adam
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians

# Yaw and pitch of the views, degrees: more in front, some from above and below.
BAKE_VIEWS: tuple[tuple[float, float], ...] = (
    (0, 0), (-30, 0), (30, 0), (-60, 0), (60, 0), (-100, 0), (100, 0), (-140, 0), (140, 0), (180, 0),
    (0, 25), (0, -20), (-45, 15), (45, -10),
)  # fmt: skip

_MARGIN = 0.005  # colours and opacities are kept this far from 0 and 1 before the logit


@dataclass(frozen=True)
class BakeSettings:
    """Rates are Adam's steps at the start; they fall to a twentieth by a cosine."""

    steps: int = 70
    colors_rate: float = 0.04  # logits
    opacities_rate: float = 0.02  # logits
    scales_rate: float = 0.02  # logarithms
    gradient_floor: float = 0.3  # see Adam
    seed: int = 0  # of the order of views


def bake_sharpening(
    head: Gaussians,
    cameras: Cameras,
    targets: Tensor,  # [C, 3, H, W] 0..1
    heard: Callable[[float], None],
    settings: BakeSettings | None = None,
) -> Gaussians:
    """The head, fitted so that its plain views look like ``targets``.

    Args:
        head: Gaussians whose views were sharpened.
        cameras: C of them, of the targets' size.
        targets: The sharpened views, over black.
        heard: Called before every step with the share that is done, 0..1; raises to stop.
        settings: Rates and steps.

    Raises:
        InvalidGaussiansError: The fit left the finite numbers.
    """
    settings = settings or BakeSettings()
    starts = (
        torch.logit(head.colors.clamp(_MARGIN, 1 - _MARGIN)),
        torch.logit(head.opacities.clamp(_MARGIN, 1 - _MARGIN)),
        head.scales.clamp(min=1e-9).log(),
    )
    changes = [torch.zeros_like(start).requires_grad_() for start in starts]
    rates = (settings.colors_rate, settings.opacities_rate, settings.scales_rate)
    optimizer = Adam(changes, rates, floor=settings.gradient_floor)
    order = torch.randperm(len(cameras), generator=torch.Generator().manual_seed(settings.seed)).tolist()

    def changed() -> Gaussians:
        colors, opacities, scales = (start + change for start, change in zip(starts, changes, strict=True))
        return Gaussians(head.means, head.quats, scales.exp(), opacities.sigmoid(), colors.sigmoid())

    for step in range(settings.steps):
        heard(step / settings.steps)
        view = order[step % len(order)]
        optimizer.clear()
        (rasterize(changed(), cameras[view]).rgb[0] - targets[view]).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / settings.steps)))
    heard(1.0)
    baked = changed().detach()
    if not all(bool(torch.isfinite(value).all()) for value in (baked.scales, baked.opacities, baked.colors)):
        raise InvalidGaussiansError("The fit to the sharpened views did not stay finite; export without sharpening.")
    return baked
