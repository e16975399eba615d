"""Render: splatting a head as cameras see it."""

from __future__ import annotations

import torch

from headlift.model.splat import rasterize
from headlift.model.splat.rasterize import Backend
from headlift.model.types import Cameras, Gaussians, RenderedViews


class Render:
    """Gaussians and cameras -> views, over black."""

    def __init__(self, backend: Backend, device: torch.device) -> None:
        """``backend`` is one of rasterize's, or "auto"."""
        self._backend = backend
        self._device = device

    def __call__(self, head: Gaussians, cameras: Cameras) -> RenderedViews:
        """Views of ``head``, one per camera."""
        with torch.inference_mode():
            return rasterize(head.to(self._device), cameras.to(self._device), backend=self._backend)
