"""From a portrait, or its tokens, to a packed head: encode, decode, refine, pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from headlift.codec import bounding_box, message_from_camera
from headlift.decode.stage import Decode
from headlift.encode.stage import Encode
from headlift.errors import FormatError
from headlift.gateway import progress
from headlift.gateway.context import StopToken
from headlift.gateway.timing import Stopwatch
from headlift.model.types import Cameras, Gaussians, ImageTokens, Portrait
from headlift.refine import Neighborhood, Refine, RefineSettings
from headlift.v1 import decode_service_pb2 as pb


class Reconstructor(Protocol):
    """What makes heads, here or elsewhere."""

    def __call__(self, portrait: Portrait, refine_steps: int, token: StopToken) -> pb.DecodeResponse:
        """The head of a portrait; blocks."""
        ...


@dataclass
class Reconstruct:
    """The stages of reconstruction in one process.

    Refinement belongs to decoding: it needs the Gaussians before they are packed, the tokens' trust and the template,
    and a hop of its own would move more than it computes on.
    """

    encode: Encode
    decode: Decode
    refine: RefineSettings  # its steps are the request's
    topology: Neighborhood
    pack_head: Callable[[Gaussians], bytes]  # into the wire codec
    weights_hash: str
    config_name: str
    portrait_size: int  # px

    def __call__(self, portrait: Portrait, refine_steps: int, token: StopToken) -> pb.DecodeResponse:
        """See Reconstructor."""
        return self.head_of(None, portrait, refine_steps, token)

    def head_of(
        self, tokens: ImageTokens | None, portrait: Portrait | None, refine_steps: int, token: StopToken
    ) -> pb.DecodeResponse:
        """The head of one portrait, or of its tokens; with tokens, ``portrait`` is needed for refinement alone.

        Raises:
            FormatError: Portrait or tokens are missing, or the tokens are another network's.
        """
        watch = Stopwatch()
        if portrait is None and (tokens is None or refine_steps):
            raise FormatError("Encoding and refinement need the portrait; send it too.", field="portrait")
        if tokens is None and portrait is not None:
            with watch.timing("encode"):
                tokens = self.encode(portrait)
            token.check()
        else:
            tokens = self._checked(tokens)
        with watch.timing("decode"):
            gaussians = self.decode(tokens)
        token.check()
        camera = (portrait.camera if portrait is not None else None) or tokens.camera
        if camera is not None and portrait is not None:
            camera = camera.resized(portrait.size, portrait.size)
        steps = refine_steps if camera is not None else 0
        if steps and camera is not None and portrait is not None:
            with watch.timing("refine"):
                trust = self.decode.trust(tokens, gaussians)
                gaussians, camera = self._refined(gaussians, portrait, camera, trust, steps, token)
        with watch.timing("pack"):
            packed = self.pack_head(gaussians)
        return pb.DecodeResponse(
            gaussians=packed,
            gaussian_count=len(gaussians),
            refine_steps=steps,
            input_camera=message_from_camera(camera) if camera is not None else None,
            bounding_box=bounding_box(gaussians),
            stage_timings=watch.timings,
            weights_hash=self.weights_hash,
            config_name=self.config_name,
        )

    def _checked(self, tokens: ImageTokens | None) -> ImageTokens:
        """Tokens that came from outside, if this network could have made them."""
        assert tokens is not None
        wanted = self._pattern
        for f in fields(tokens):
            given, own = getattr(tokens, f.name), getattr(wanted, f.name)
            fits = (given is None) == (own is None)
            if isinstance(given, Tensor) and isinstance(own, Tensor):
                # Patches may be fewer or more; how wide each is may not differ.
                fits = given.shape[2:] == own.shape[2:] if f.name in ("tokens", "pixels") else given.ndim == own.ndim
                fits = fits and (f.name not in ("code", "warp") or given.shape == own.shape)
            if not fits and f.name != "camera":
                raise FormatError(
                    f"tokens.{f.name} is not what the network {self.config_name!r} answers; encode with the same one.",
                    field=f"tokens.{f.name}",
                )
        return tokens.to(self.decode.device)

    @cached_property
    def _pattern(self) -> ImageTokens:
        """Tokens of a blank portrait."""
        side = self.portrait_size
        blank = torch.zeros(4, side, side)
        blank[:, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1.0
        return self.encode(Portrait(blank[:3], blank[3:], torch.eye(3, dtype=torch.float64)[:2]))

    def _refined(
        self,
        gaussians: Gaussians,
        portrait: Portrait,
        camera: Cameras,
        trust: Tensor | None,
        steps: int,
        token: StopToken,
    ) -> tuple[Gaussians, Cameras]:
        def step(done: int, total: int, _: float) -> None:
            token.check()
            progress.tell("refine", done / total)

        refine = Refine(replace(self.refine, steps=steps))
        result = refine(gaussians, portrait, camera, topology=self.topology, trust=trust, progress=step)
        return result.gaussians, result.camera
