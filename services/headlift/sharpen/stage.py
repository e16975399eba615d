"""Sharpen: the SHP-CNN of a PercHead over splatted pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.perchead import PercHead


class Sharpen:
    """Splatted picture -> sharpened picture of the same size.

    Attributes:
        available: Whether the network has a sharpener at all.
    """

    def __init__(self, model: PercHead, device: torch.device) -> None:
        self._model = model
        self._device = device
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
            sharp: Tensor = self._model.sharpen(rgb.to(self._device))
        return sharp.clamp(0.0, 1.0)
