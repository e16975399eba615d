"""Decode: the template decoder of a PercHead over the tokens of one portrait."""

from __future__ import annotations

import torch

from headlift.model.perchead import PercHead
from headlift.model.types import Gaussians, ImageTokens


class Decode:
    """ImageTokens -> Gaussians."""

    def __init__(self, model: PercHead) -> None:
        self._model = model

    def __call__(self, tokens: ImageTokens) -> Gaussians:
        """The head of the first (and only) portrait in ``tokens``."""
        with torch.no_grad():
            head: Gaussians = self._model.decode(tokens)[0]
        return head
