"""headlift.v1.SharpenService: decode, compute, reply."""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from headlift.codec import message_from_tensor, tensor_from_message
from headlift.errors import FormatError
from headlift.sharpen.stage import Sharpen
from headlift.v1 import picture_pb2
from headlift.v1 import sharpen_service_pb2 as pb

VIEWS_MAX, SIDES = 64, (16, 2048)
Pack = Callable[[Tensor, Tensor, picture_pb2.PictureOptions], bytes]  # rgb [3, H, W], alpha [1, H, W]


class SharpenAnswer:
    """The stage, message to message; blocks."""

    def __init__(self, sharpen: Sharpen, pack: Pack) -> None:
        """``pack`` makes pictures of views."""
        self._sharpen = sharpen
        self._pack = pack

    def __call__(self, request: pb.SharpenRequest, token: Any) -> pb.SharpenResponse:
        """Sharpen the views of one request."""
        return self.together([request])[0]

    def together(self, requests: Sequence[pb.SharpenRequest]) -> list[pb.SharpenResponse]:
        """Sharpen the views of several requests, in one pass where they have one size."""
        views = [_views(r) for r in requests]
        begin = time.perf_counter()
        if len({(*rgb.shape[1:], rgb.dtype) for rgb, _ in views}) == 1:
            sharp = list(torch.split(self._sharpen(torch.cat([rgb for rgb, _ in views])), [len(v[0]) for v in views]))
        else:
            sharp = [self._sharpen(rgb) for rgb, _ in views]
        spent_ms = (time.perf_counter() - begin) * 1e3
        return [self._reply(r, rgb, v[1], spent_ms) for r, rgb, v in zip(requests, sharp, views, strict=True)]

    def _reply(self, request: pb.SharpenRequest, rgb: Tensor, alpha: Tensor, spent_ms: float) -> pb.SharpenResponse:
        answer = pb.SharpenResponse()
        answer.stage_timings.add(stage="sharpen", duration_ms=spent_ms)
        if not request.HasField("picture"):
            answer.rgb.CopyFrom(message_from_tensor(rgb))
            return answer
        begin = time.perf_counter()
        answer.pictures.extend(self._pack(rgb[i], alpha[i], request.picture) for i in range(len(rgb)))
        answer.stage_timings.add(stage="pack", duration_ms=(time.perf_counter() - begin) * 1e3)
        return answer


class SharpenServicer:
    """The RPCs of SharpenService, over the stage here or elsewhere."""

    def __init__(self, call: Callable[[pb.SharpenRequest], Awaitable[pb.SharpenResponse]]) -> None:
        self._call = call

    async def Sharpen(self, request: pb.SharpenRequest, context: object) -> pb.SharpenResponse:
        """See the contract."""
        return await self._call(request)


def _views(request: pb.SharpenRequest) -> tuple[Tensor, Tensor]:
    rgb = tensor_from_message(request.rgb, "rgb", -1, 3, -1, -1)
    count, _, height, width = rgb.shape
    if not 1 <= count <= VIEWS_MAX or min(height, width) < SIDES[0] or max(height, width) > SIDES[1]:
        raise FormatError(
            f"rgb has {count} views of {width}x{height}; 1..{VIEWS_MAX} of {SIDES[0]}..{SIDES[1]} pixels are needed.",
            field="rgb",
        )
    picture = request.picture
    if request.HasField("picture") and (picture.width_px or 512, picture.height_px or 512) != (width, height):
        raise FormatError(
            f"The pictures are to have another size than the views' {width}x{height} pixels; give the same.",
            field="picture.width_px",
        )
    if request.HasField("alpha"):
        return rgb, tensor_from_message(request.alpha, "alpha", count, 1, height, width)
    if picture.alpha:
        raise FormatError("Pictures with alpha are asked for and there is none; send it.", field="alpha")
    return rgb, torch.ones_like(rgb[:, :1])
