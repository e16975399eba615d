"""Encode: the dual-branch encoder of a PercHead over one portrait."""

from __future__ import annotations

import torch

from headlift.model.perchead import PercHead
from headlift.model.types import ImageTokens, Portrait


class Encode:
    """Portrait -> ImageTokens, on the network's device."""

    def __init__(self, model: PercHead, device: torch.device) -> None:
        self._model = model
        self._device = device

    def __call__(self, portrait: Portrait) -> ImageTokens:
        """Tokens (B = 1) of a portrait; its camera, where it has one, is used instead of an estimate."""
        portrait = portrait.to(self._device)
        with torch.no_grad():
            tokens: ImageTokens = self._model.encode(portrait.image[None], portrait.alpha[None], portrait.camera)
        return tokens
