"""Sharpen: the SHP-CNN of a PercHead over splatted pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from headlift.errors import BackendUnavailableError, InvalidInputError
from headlift.model.sizes import HeadModel
from headlift.stages.cuda_graphs import Graphed
from headlift.stages.native_sharpener import NativeSharpener


class Sharpen:
    """Splatted picture -> sharpened picture of the same size.

    Attributes:
        available: Whether the network has a sharpener at all.
    """

    def __init__(self, model: HeadModel, device: torch.device, *, cuda_graphs: bool = False) -> None:
        """``cuda_graphs`` records the network's kernels for each size of pictures, where the device is a GPU."""
        self._model = model
        self._device = device
        self._sharpen = _fastest(model, device, cuda_graphs)
        self.available = model.config.sharpener is not None

    def __call__(self, rgb: Tensor) -> Tensor:
        """Sharpen ``rgb`` [C, 3, H, W] 0..1; the answer is clamped to 0..1.

        Raises:
            InvalidInputError: The network has no sharpener.
        """
        if not self.available:
            raise InvalidInputError(
                f"The network {self._model.config.name!r} has no sharpener; ask with sharpening unspecified or off.",
                reason="NO_SHARPENER",
                field="picture.sharpening",
            )
        with torch.inference_mode():
            sharp = self._sharpen(rgb.to(self._device))
        return sharp.clamp(0.0, 1.0)


def _fastest(model: HeadModel, device: torch.device, cuda_graphs: bool) -> Callable[[Tensor], Tensor]:
    if cuda_graphs:
        return Graphed(model.sharpen)
    if device.type == "cpu" and model.sharpener is not None:
        try:
            return NativeSharpener(model.sharpener)
        except BackendUnavailableError:  # no compiler: torch computes the same, four times as slowly
            pass
    return model.sharpen
