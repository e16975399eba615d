"""Decode: the template decoder of a PercHead over the tokens of one portrait."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headlift.model.guidance import recolor_trust
from headlift.model.perchead import PercHead
from headlift.model.tone import toned
from headlift.model.types import Gaussians, ImageTokens


class Decode:
    """ImageTokens -> Gaussians."""

    def __init__(self, model: PercHead) -> None:
        self._model = model

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self._model.parameters()).device

    def __call__(self, tokens: ImageTokens) -> Gaussians:
        """The head of the first (and only) portrait in ``tokens``, in its tone if it has but one."""
        with torch.no_grad():
            head: Gaussians = self._model.decode(tokens)[0]
        return head if tokens.pixels is None else replace(head, colors=toned(head.colors, tokens.pixels))

    def trust(self, tokens: ImageTokens, head: Gaussians) -> Tensor | None:
        """How far the portrait may recolour each Gaussian where it shows, [N] in 0..1.

        None for models that do not parse pictures.
        """
        decoder = self._model.decoder
        if decoder.fits is None or tokens.parsing is None or tokens.camera is None:
            return None
        return recolor_trust(tokens.parsing, tokens.camera, head.means, decoder.normals, decoder.fits)
