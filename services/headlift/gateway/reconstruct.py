"""Reconstruction message to message: what the stage makes of a portrait or its tokens, packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headlift.codec import bounding_box, message_from_camera
from headlift.gateway import progress
from headlift.gateway.context import StopToken
from headlift.gateway.timing import Stopwatch
from headlift.model.types import Gaussians, ImageTokens, Portrait
from headlift.stages.reconstruct import Reconstruct
from headlift.v1 import decode_service_pb2 as pb


class Reconstructor(Protocol):
    """What makes heads, here or elsewhere."""

    def __call__(self, portrait: Portrait, refine_steps: int, token: StopToken) -> pb.DecodeResponse:
        """The head of a portrait; blocks."""
        ...


@dataclass(frozen=True)
class LocalReconstructor:
    """The stage of this process."""

    stage: Reconstruct
    pack_head: Callable[[Gaussians], bytes]  # into the wire codec
    weights_hash: str

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
        made = self.stage(
            portrait,
            tokens=tokens,
            refine_steps=refine_steps,
            clock=watch,
            check=token.check,
            on_step=lambda done, steps: progress.report("refine", done / steps),
        )
        with watch.timing("pack"):
            packed = self.pack_head(made.gaussians)
        return pb.DecodeResponse(
            gaussians=packed,
            gaussian_count=len(made.gaussians),
            refine_steps=made.refine_steps,
            input_camera=message_from_camera(made.camera) if made.camera is not None else None,
            bounding_box=bounding_box(made.gaussians),
            stage_timings=watch.timings,
            weights_hash=self.weights_hash,
            config_name=self.stage.model.config.name,
        )
