"""A client of EditService for one visitor: whole answers, with the words that were passed over, and no second tries."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import grpc

from headlift.serving.client import Credentials
from headlift.serving.client.blocking import CHANNEL_OPTIONS
from headlift.serving.client.retry import error_from_rpc
from headlift.v1 import edit_service_pb2 as pb
from headlift.v1 import edit_service_pb2_grpc

_TIMEOUT_S = 120.0


class Editing:
    """An ``async with`` block; every method raises the errors of ``headlift.errors``, and stops when cancelled."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._credentials = credentials
        self._channel = credentials.channel(grpc.aio, address, CHANNEL_OPTIONS)
        self._stub = edit_service_pb2_grpc.EditServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close(grace=None)

    async def segment(self, request: pb.SegmentPortraitRequest) -> pb.SegmentPortraitResponse:
        """See the contract."""
        answer: pb.SegmentPortraitResponse = await self._call(self._stub.SegmentPortrait, request)
        return answer

    async def embed(self, request: pb.EmbedStyleRequest) -> pb.EmbedStyleResponse:
        """See the contract."""
        answer: pb.EmbedStyleResponse = await self._call(self._stub.EmbedStyle, request)
        return answer

    async def edit(self, request: pb.EditHeadRequest) -> pb.EditHeadResponse:
        """See the contract."""
        answer: pb.EditHeadResponse = await self._call(self._stub.EditHead, request)
        return answer

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=_TIMEOUT_S, metadata=self._credentials.metadata())
        except grpc.RpcError as failure:
            raise error_from_rpc(failure) from None
