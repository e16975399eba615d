"""headlift.v1.DecodeService: decode, compute, reply."""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from headlift.codec import portrait_from_message, tokens_from_message
from headlift.errors import FormatError
from headlift.model.types import ImageTokens, Portrait
from headlift.v1 import decode_service_pb2 as pb

STEPS_MAX = 1000


class HeadMaker(Protocol):
    """What makes a head of tokens, of a portrait, or of both."""

    def head_of(
        self, tokens: ImageTokens | None, portrait: Portrait | None, refine_steps: int, token: Any
    ) -> pb.DecodeResponse:
        """The head; blocks."""
        ...


class DecodeAnswer:
    """The stage and refinement, message to message; blocks."""

    def __init__(self, maker: HeadMaker) -> None:
        self._maker = maker

    def __call__(self, request: pb.DecodeRequest, token: Any) -> pb.DecodeResponse:
        """Decode, and refine where that is asked for."""
        if not 0 <= request.refine_steps <= STEPS_MAX:
            raise FormatError(
                f"refine_steps is {request.refine_steps}; it must lie in 0..{STEPS_MAX}.", field="refine_steps"
            )
        if not request.HasField("tokens") and not request.HasField("portrait"):
            raise FormatError("There is neither tokens nor portrait; send one of them.", field="tokens")
        tokens = tokens_from_message(request.tokens) if request.HasField("tokens") else None
        portrait = portrait_from_message(request.portrait) if request.HasField("portrait") else None
        return self._maker.head_of(tokens, portrait, request.refine_steps, token)


class DecodeServicer:
    """The RPCs of DecodeService, over the stage here or elsewhere."""

    def __init__(self, call: Callable[[pb.DecodeRequest], Awaitable[pb.DecodeResponse]]) -> None:
        self._call = call

    async def Decode(self, request: pb.DecodeRequest, context: object) -> pb.DecodeResponse:
        """See the contract."""
        return await self._call(request)
