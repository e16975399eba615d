"""headlift.v1.EncodeService: decode, compute, reply."""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headlift.codec import message_from_tokens, portrait_from_message
from headlift.stages.reconstruct import Reconstruct
from headlift.v1 import encode_service_pb2 as pb


class EncodeAnswer:
    """The stage, message to message; blocks."""

    def __init__(self, stage: Reconstruct, weights_hash: str) -> None:
        self._stage = stage
        self._weights_hash = weights_hash

    def __call__(self, request: pb.EncodeRequest, token: Any) -> pb.EncodeResponse:
        """Encode one portrait."""
        return self.together([request])[0]

    def together(self, requests: Sequence[pb.EncodeRequest]) -> list[pb.EncodeResponse]:
        """Encode several portraits at once. Raises for all if one of them cannot be read."""
        portraits = [portrait_from_message(r.portrait) for r in requests]
        begin = time.perf_counter()
        tokens = self._stage.encode(portraits)
        spent_ms = (time.perf_counter() - begin) * 1e3
        return [
            pb.EncodeResponse(
                tokens=message_from_tokens(t),
                duration_ms=spent_ms,
                batch_size=len(requests),
                weights_hash=self._weights_hash,
            )
            for t in tokens
        ]


class EncodeServicer:
    """The RPCs of EncodeService, over the stage here or elsewhere."""

    def __init__(self, call: Callable[[pb.EncodeRequest], Awaitable[pb.EncodeResponse]]) -> None:
        self._call = call

    async def Encode(self, request: pb.EncodeRequest, context: object) -> pb.EncodeResponse:
        """See the contract."""
        return await self._call(request)
