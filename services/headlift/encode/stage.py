"""Encode: the dual-branch encoder of a PercHead over portraits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from headlift.model.perchead import PercHead
from headlift.model.types import Cameras, ImageTokens, Portrait


class Encode:
    """Portrait -> ImageTokens, on the network's device."""

    def __init__(self, model: PercHead, device: torch.device) -> None:
        self._model = model
        self._device = device

    def __call__(self, portrait: Portrait) -> ImageTokens:
        """Tokens (B = 1) of a portrait; its camera, where it has one, is used instead of an estimate."""
        return self.together([portrait])[0]

    def together(self, portraits: Sequence[Portrait]) -> list[ImageTokens]:
        """Tokens (B = 1 each) of several portraits, in as few passes as their sizes and cameras allow."""
        tokens: dict[int, ImageTokens] = {}
        for rows in _alike(portraits):
            tokens.update(zip(rows, self._batch([portraits[i] for i in rows]), strict=True))
        return [tokens[i] for i in range(len(portraits))]

    def _batch(self, portraits: list[Portrait]) -> list[ImageTokens]:
        moved = [p.to(self._device) for p in portraits]
        cameras = [p.camera for p in moved if p.camera is not None]
        image, alpha = (torch.stack([getattr(p, name) for p in moved]) for name in ("image", "alpha"))
        known = torch.stack([p.known() for p in portraits]).to(self._device)
        with torch.no_grad():
            tokens: ImageTokens = self._model.encode(image, alpha, _joined(cameras) if cameras else None, known)
        return [_row(tokens, i) for i in range(len(portraits))]


def _alike(portraits: Sequence[Portrait]) -> list[list[int]]:
    """Indices of portraits that fit into one pass."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, portrait in enumerate(portraits):
        groups.setdefault((portrait.size, portrait.camera is None, portrait.image.dtype), []).append(i)
    return list(groups.values())


def _joined(cameras: list[Cameras]) -> Cameras:
    return replace(cameras[0], viewmats=torch.cat([c.viewmats for c in cameras]), Ks=torch.cat([c.Ks for c in cameras]))


def _row(tokens: ImageTokens, i: int) -> ImageTokens:
    cut: dict[str, Any] = {}
    for f in fields(tokens):
        value = getattr(tokens, f.name)
        if isinstance(value, Tensor):
            cut[f.name] = value[i : i + 1]
        elif isinstance(value, Cameras):
            cut[f.name] = value[i]
    return replace(tokens, **cut)
