"""From a portrait to a head: the one way there is, for services, editor, batches, evaluation and tests.

    Portrait --encode--> ImageTokens --decode--> Gaussians --refine--> Reconstruction

Legend: B portraits, N Gaussians, S portrait side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from headlift.errors import FormatError
from headlift.model.refine import Neighborhood, Refine, RefineSettings
from headlift.model.sizes import HeadModel
from headlift.model.types import Cameras, Gaussians, ImageTokens, Observation, Portrait
from headlift.stages.clock import PlainClock, StageClock

R = TypeVar("R", ImageTokens, Observation)


@dataclass(frozen=True)
class Reconstruction:
    """A head, and how it came about."""

    gaussians: Gaussians
    tokens: ImageTokens  # B = 1
    camera: Cameras | None  # C = 1, the input view, after refinement where there was any; None where nothing could tell
    refine_steps: int  # that were taken


class Reconstruct:
    """Portrait, or tokens of one, to a head. Safe to call from several threads; the same input gives the same bits."""

    def __init__(
        self, model: HeadModel, refine: RefineSettings | None = None, *, portrait_size: int | None = None
    ) -> None:
        """Hold a network.

        Args:
            model: In evaluation mode, where it computes.
            refine: How refinement goes; its number of steps is each call's own.
            portrait_size: Side of the portraits that will come, pixels; None is what the model was trained on.
        """
        self.model = model
        self.refine = refine or RefineSettings()
        self.portrait_size = portrait_size or model.config.portrait_size
        self._topology = Neighborhood(model.template.neighbors.long(), model.template.mirror.long())

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.device

    @torch.no_grad()
    def __call__(
        self,
        portrait: Portrait | None,
        *,
        tokens: ImageTokens | None = None,
        refine_steps: int = 0,
        clock: StageClock | None = None,
        check: Callable[[], object] = lambda: None,
        on_step: Callable[[int, int], object] = lambda done, steps: None,
    ) -> Reconstruction:
        """The head of one portrait.

        Args:
            portrait: May be missing where there are tokens and nothing is to be refined.
            tokens: What ``encode`` gave for it (B = 1), where it was asked before.
            refine_steps: Gradient steps against the portrait; 0 is the paper. Without a camera there are none.
            clock: Notes encode, decode and refine.
            check: Called between the stages and before each step; what it raises ends the work.
            on_step: Called before each step of refinement with the steps done and their number.

        Raises:
            FormatError: Portrait or tokens are missing, or the tokens are another network's.
        """
        clock = clock or PlainClock()
        if portrait is None and (tokens is None or refine_steps):
            raise FormatError("Encoding and refinement need the portrait; send it too.", field="portrait")
        if tokens is not None:
            tokens = self._checked(tokens)
        elif portrait is not None:
            with clock.timing("encode"):
                (tokens,) = self.encode([portrait])
            check()
        assert tokens is not None
        with clock.timing("decode"):
            gaussians = self.decode(tokens)
        check()
        camera = (portrait.camera if portrait is not None else None) or tokens.camera
        if portrait is None or camera is None:
            return Reconstruction(gaussians, tokens, camera, 0)
        camera = camera.resized(portrait.size, portrait.size)
        if not refine_steps:
            return Reconstruction(gaussians, tokens, camera, 0)

        def before_step(done: int, steps: int) -> None:
            check()
            on_step(done, steps)

        with clock.timing("refine"):
            gaussians, camera = self.refined(gaussians, portrait, camera, tokens, refine_steps, before_step)
        return Reconstruction(gaussians, tokens, camera, refine_steps)

    @torch.no_grad()
    def encode(self, portraits: Sequence[Portrait]) -> list[ImageTokens]:
        """Tokens (B = 1 each) of portraits, in as few passes as their sizes and cameras allow.

        A portrait's own camera, where it has one, takes the place of the estimate.
        """
        tokens: dict[int, ImageTokens] = {}
        for rows in _alike(portraits):
            tokens.update(zip(rows, self._encoded([portraits[i] for i in rows]), strict=True))
        return [tokens[i] for i in range(len(portraits))]

    @torch.no_grad()
    def decode(self, tokens: ImageTokens) -> Gaussians:
        """The unrefined head of tokens (B = 1)."""
        return self.model.decode(tokens)[0]

    def refined(
        self,
        gaussians: Gaussians,
        portrait: Portrait,
        camera: Cameras,
        tokens: ImageTokens,
        steps: int,
        on_step: Callable[[int, int], object] = lambda done, steps: None,
    ) -> tuple[Gaussians, Cameras]:
        """A head in this template's order, and its input camera (C = 1), after ``steps`` against the portrait."""
        refine = Refine(replace(self.refine, steps=steps))
        result = refine(
            gaussians,
            portrait,
            camera,
            topology=self._topology,
            trust=self.model.recolor_trust(tokens, gaussians),
            progress=lambda done, of, _: on_step(done, of),
        )
        return result.gaussians, result.camera

    def _encoded(self, portraits: list[Portrait]) -> list[ImageTokens]:
        moved = [p.to(self.device) for p in portraits]
        cameras = [p.camera for p in moved if p.camera is not None]
        image, alpha = (torch.stack([getattr(p, name) for p in moved]) for name in ("image", "alpha"))
        source_mask = torch.stack([p.source_mask() for p in portraits]).to(self.device)
        tokens = self.model.encode(image, alpha, _joined(cameras) if cameras else None, source_mask)
        return [_row(tokens, i) for i in range(len(portraits))]

    def _checked(self, tokens: ImageTokens) -> ImageTokens:
        """Tokens that came from outside, if this network could have made them."""
        for name, given, own in _pairs(tokens, self._pattern):
            fits = (given is None) == (own is None)
            if isinstance(given, Tensor) and isinstance(own, Tensor):
                # Patches, pixels and parsing may be fewer or more; how wide each is may not differ.
                free = {"tokens": 2, "pixels": 2, "mask": 2, "positions": 2, "parsing": 4}.get(name, 0)
                fits = given.ndim == own.ndim and (free == 4 or given.shape[free:] == own.shape[free:])
            if not fits:
                raise FormatError(
                    f"tokens.{name} is not what the network {self.model.config.name!r} answers; "
                    "encode with the same one.",
                    field=f"tokens.{name}",
                )
        return tokens.to(self.device)

    @cached_property
    def _pattern(self) -> ImageTokens:
        """Tokens of a blank portrait."""
        side = self.portrait_size
        blank = torch.zeros(4, side, side)
        blank[:, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1.0
        return self.encode([Portrait(blank[:3], blank[3:], torch.eye(3, dtype=torch.float64)[:2])])[0]


def _pairs(given: ImageTokens, own: ImageTokens) -> Iterator[tuple[str, object, object]]:
    """Every field of both but the camera, an observation's among them, by name."""
    names = ("tokens", "mask", "positions")
    yield from ((name, getattr(given, name), getattr(own, name)) for name in names)
    for f in fields(Observation):
        yield f.name, getattr(given.observation, f.name, None), getattr(own.observation, f.name, None)


def _alike(portraits: Sequence[Portrait]) -> list[list[int]]:
    """Indices of portraits that fit into one pass."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, portrait in enumerate(portraits):
        groups.setdefault((portrait.size, portrait.camera is None, portrait.image.dtype), []).append(i)
    return list(groups.values())


def _joined(cameras: list[Cameras]) -> Cameras:
    return replace(cameras[0], viewmats=torch.cat([c.viewmats for c in cameras]), Ks=torch.cat([c.Ks for c in cameras]))


def _row(batch: R, i: int) -> R:
    """Row ``i`` of every tensor and camera, as a batch of one."""
    cut: dict[str, Any] = {}
    for f in fields(batch):
        value = getattr(batch, f.name)
        if isinstance(value, Tensor):
            cut[f.name] = value[i : i + 1]
        elif isinstance(value, Cameras):
            cut[f.name] = value[i]
        elif isinstance(value, Observation):
            cut[f.name] = _row(value, i)
    return replace(batch, **cut)
