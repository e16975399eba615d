"""Batches from Python: many portraits, or a clip, as one operation that the server does on its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc

from headlift.errors import DeadlineError, InvalidInputError
from headlift.gateway.status import error_of
from headlift.serving.client.blocking import HeadliftClient
from headlift.serving.client.requests import creation
from headlift.v1 import batch_service_pb2 as pb
from headlift.v1 import batch_service_pb2_grpc

_WAIT_S = 20.0  # of one call; a longer wait is several


class BatchClient:
    """The batches of a client's tenant. Every method may raise the errors of ``headlift.errors``."""

    def __init__(self, client: HeadliftClient) -> None:
        """``client`` must outlive this."""
        self._client = client
        channel: Any = client._channel
        self._batches: Any = batch_service_pb2_grpc.BatchServiceStub(channel)
        self._operations: Any = operations_pb2_grpc.OperationsStub(channel)

    def create_heads(
        self,
        pictures: Sequence[bytes | str | os.PathLike[str]],
        *,
        refine_steps: int | None = None,
        request_id: str | None = None,
    ) -> str:
        """Begin to make a head of each of 1..1000 pictures, bytes or paths; the operation's name."""
        requests = [creation("", picture, refine_steps=refine_steps) for picture in pictures]
        for request in requests:
            request.ClearField("parent")
            request.ClearField("request_id")
        return self._begin(pb.BatchCreateHeadsRequest(requests=requests), request_id)

    def create_heads_of_clip(
        self,
        clip: bytes | str | os.PathLike[str],
        *,
        frame_step: int = 1,
        frame_count_max: int = 0,
        refine_steps: int | None = None,
        request_id: str | None = None,
    ) -> str:
        """Begin to make a head of every ``frame_step``-th frame of a clip; the operation's name."""
        try:
            video = clip if isinstance(clip, bytes) else Path(clip).read_bytes()
        except OSError as error:
            raise InvalidInputError(f"{clip!s} cannot be read: {error.strerror}.", field="clip") from None
        message = pb.Clip(video=video, frame_step=frame_step, frame_count_max=frame_count_max)
        if refine_steps is not None:
            message.refine_steps = refine_steps
        return self._begin(pb.BatchCreateHeadsRequest(clip=message), request_id)

    def progress(self, name: str) -> pb.BatchCreateHeadsMetadata:
        """How far a batch has come; with ``end_time`` once it has ended."""
        return _metadata(self._call(self._operations.GetOperation, operations_pb2.GetOperationRequest(name=name)))

    def names(self) -> Iterator[str]:
        """Every operation of the tenant."""
        request = operations_pb2.ListOperationsRequest(name=self._parent)
        while True:
            page = self._call(self._operations.ListOperations, request)
            yield from (operation.name for operation in page.operations)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def wait(self, name: str, timeout_s: float = 3600.0) -> list[pb.BatchHeadResult]:
        """What came of every portrait, in order, once the batch has ended.

        Raises:
            DeadlineError: It goes on for longer than ``timeout_s``.
            CancelledError: It was cancelled.
        """
        left = timeout_s
        while True:
            request = operations_pb2.WaitOperationRequest(name=name)
            request.timeout.FromNanoseconds(int(min(left, _WAIT_S) * 1e9))
            operation = self._call(self._operations.WaitOperation, request)
            if operation.done:
                break
            left -= _WAIT_S
            if left <= 0:
                raise DeadlineError(f"The batch goes on after {timeout_s:g} s; wait again, or cancel it.")
        if operation.HasField("error"):
            raise error_of(operation.error)
        response = pb.BatchCreateHeadsResponse()
        operation.response.Unpack(response)
        return list(response.results)

    def cancel(self, name: str) -> None:
        """Have a batch stop; portraits in hand are finished."""
        self._call(self._operations.CancelOperation, operations_pb2.CancelOperationRequest(name=name))

    def delete(self, name: str) -> None:
        """Forget a batch that has ended; its heads stay."""
        self._call(self._operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=name))

    @property
    def _parent(self) -> str:
        return f"tenants/{self._client.tenant}"

    def _begin(self, request: pb.BatchCreateHeadsRequest, request_id: str | None) -> str:
        request.parent = self._parent
        # Named, so that an attempt whose answer was lost is not begun a second time.
        request.request_id = request_id or str(uuid.uuid4())
        return str(self._call(self._batches.BatchCreateHeads, request).name)

    def _call(self, method: Any, request: Any) -> Any:
        return self._client._call(method, request, None)


def _metadata(operation: operations_pb2.Operation) -> pb.BatchCreateHeadsMetadata:
    metadata = pb.BatchCreateHeadsMetadata()
    operation.metadata.Unpack(metadata)
    return metadata
