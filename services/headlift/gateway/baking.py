"""Exports with the sharpener's work in the Gaussians: served views, then a fit on a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import torch

from headlift import formats
from headlift.backend.protocol import HeadRef
from headlift.backend.workers import Workers
from headlift.gateway.pipeline import Pipeline
from headlift.media.pictures import RenderOptions
from headlift.model.cameras import orbit_cameras
from headlift.model.refine.bake import BAKE_VIEWS, bake_sharpening
from headlift.stages import progress
from headlift.stages.stop_token import StopToken

_SIDE = 512  # px of the views that are fitted
_RENDER_SHARE = 0.2  # of the work, roughly
_REPORTS = 0.05  # smallest step of progress that is passed on


class Baking:
    """One fit at a time; others wait, a few of them."""

    def __init__(self, pipeline: Pipeline, *, queue_size: int = 4) -> None:
        """``pipeline`` takes the sharpened views."""
        self._pipeline = pipeline
        self._workers = Workers("baking", 1, queue_size)

    async def bake(self, head: HeadRef) -> AsyncGenerator[float | bytes]:
        """Shares of the work that are done, 0..1, and at last the baked head in the wire codec.

        Leaving the iteration early, a cancelled call and its deadline stop the fit before its next step.

        Raises:
            InvalidInputError: The network has no sharpener.
            CancelledError, DeadlineError: Nobody waits any more.
            OverloadedError: Too many fits wait already.
        """
        cameras = orbit_cameras(*zip(*BAKE_VIEWS, strict=True), width=_SIDE, height=_SIDE)
        options = RenderOptions(_SIDE, _SIDE, "raw_uint8", sharpen=True)
        targets = torch.empty(len(cameras), 3, _SIDE, _SIDE)
        for i in range(len(cameras)):
            yield _RENDER_SHARE * i / len(cameras)
            (data,) = (await self._pipeline.render(head, cameras[i], options)).pictures
            pixels = np.frombuffer(data, np.uint8).reshape(_SIDE, _SIDE, 3)
            targets[i] = torch.from_numpy(pixels.astype(np.float32) / 255.0).permute(2, 0, 1)
        loop, shares = asyncio.get_running_loop(), asyncio.Queue[float]()

        def fit(token: StopToken) -> bytes:
            last = 0.0

            def heard(share: float) -> None:
                nonlocal last
                token.check()
                if share - last >= _REPORTS:
                    last = share
                    progress.report("bake", share)
                    loop.call_soon_threadsafe(shares.put_nowait, share)

            return formats.write(bake_sharpening(head.unpacked(), cameras, targets, heard), "wire")

        job = asyncio.create_task(self._workers.run(fit))
        try:
            while not job.done():
                waiting = asyncio.create_task(shares.get())
                await asyncio.wait((job, waiting), return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    yield _RENDER_SHARE + (1 - _RENDER_SHARE) * waiting.result()
                else:
                    waiting.cancel()
            yield await job
        finally:
            job.cancel()

    def close(self) -> None:
        """Wait for a running fit and take no more."""
        self._workers.close()
