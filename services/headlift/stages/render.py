"""Render: splatting a head as cameras see it, and the packed pictures that are made of the views."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.media.pictures import RenderOptions, pack
from headlift.model.splat import rasterize
from headlift.model.splat.rasterize import Backend as Rasterizer
from headlift.model.types import Cameras, Gaussians, RenderedViews
from headlift.stages.clock import StageClock
from headlift.stages.sharpen import Sharpen
from headlift.stages.stop_token import StopToken


class Render:
    """Gaussians and cameras -> views, over black."""

    def __init__(self, rasterizer: Rasterizer, device: torch.device) -> None:
        """``rasterizer`` is one of rasterize's backends, or "auto"."""
        self._rasterizer = rasterizer
        self._device = device

    def __call__(self, head: Gaussians, cameras: Cameras) -> RenderedViews:
        """Views of ``head``, one per camera."""
        with torch.inference_mode():
            return rasterize(head.to(self._device), cameras.to(self._device), backend=self._rasterizer)


def render_pictures(
    render: Render,
    sharpen: Sharpen | None,
    head: Gaussians,
    cameras: Cameras,
    options: RenderOptions,
    token: StopToken,
    clock: StageClock,
) -> list[bytes]:
    """One packed picture per camera; without ``sharpen``, pictures stay as they are splatted.

    Raises:
        InvalidInputError: Sharpening is asked for and the network has no sharpener.
        CancelledError, DeadlineError: Nobody waits any more.
    """
    pictures = []
    # One camera at a time bounds memory at 64 cameras of 2048 pixels, and lets a cancelled call end soon.
    for i in range(len(cameras)):
        token.check()
        with clock.timing("render"):
            views = render(head, cameras[i])
        rgb = _sharpened(sharpen, views.rgb, options, clock)
        with clock.timing("pack"):
            pictures.append(pack(rgb[0], views.alpha[0], options))
    return pictures


def _sharpened(sharpen: Sharpen | None, rgb: Tensor, options: RenderOptions, clock: StageClock) -> Tensor:
    if sharpen is None or not (sharpen.available if options.sharpen is None else options.sharpen):
        return rgb
    with clock.timing("sharpen"):
        return sharpen(rgb)
