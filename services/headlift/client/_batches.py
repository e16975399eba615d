"""Calls of batches: many portraits, or a clip, as one operation that the server does on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.longrunning import operations_pb2

from headlift.client._calls import Pages, Polls, Unary, pages
from headlift.client._heads import new_request_id
from headlift.client._pictures import PictureFile, read_file
from headlift.errors import DeadlineError
from headlift.status import error_of
from headlift.v1 import batch_service_pb2 as pb
from headlift.v1 import head_service_pb2

_WAIT_S = 20.0  # of one call; a longer wait is several


def create_heads(
    tenant: str,
    pictures: Sequence[PictureFile],
    *,
    refine_steps: int | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Unary[str]:
    """Begin to make a head of each of 1..1000 pictures, bytes or paths; the operation's name."""
    requests = [
        head_service_pb2.CreateHeadRequest(
            picture=read_file(picture),
            several_faces=head_service_pb2.SEVERAL_FACES_LARGEST,
            refine_steps=refine_steps,
        )
        for picture in pictures
    ]
    return _begin(tenant, pb.BatchCreateHeadsRequest(requests=requests), request_id, timeout_s)


def create_heads_of_clip(
    tenant: str,
    clip: PictureFile,
    *,
    frame_step: int = 1,
    frame_count_max: int = 0,
    refine_steps: int | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
) -> Unary[str]:
    """Begin to make a head of every ``frame_step``-th frame of a clip; the operation's name."""
    message = pb.Clip(
        video=read_file(clip, "clip"),
        frame_step=frame_step,
        frame_count_max=frame_count_max,
        refine_steps=refine_steps,
    )
    return _begin(tenant, pb.BatchCreateHeadsRequest(clip=message), request_id, timeout_s)


def get_batch(tenant: str, name: str, *, timeout_s: float | None = None) -> Unary[pb.BatchCreateHeadsMetadata]:
    """How far a batch has come; with ``end_time`` once it has ended."""
    request = operations_pb2.GetOperationRequest(name=name)
    return Unary(lambda stubs: stubs.operations.GetOperation, request, _metadata, timeout_s)


def list_batches(tenant: str, *, timeout_s: float | None = None) -> Pages[str]:
    """The name of every operation of the tenant."""
    request = operations_pb2.ListOperationsRequest(name=f"tenants/{tenant}")
    return pages(
        lambda stubs: stubs.operations.ListOperations,
        request,
        lambda page: [operation.name for operation in page.operations],
        timeout_s,
    )


def wait_for_batch(tenant: str, name: str, *, timeout_s: float = 3600.0) -> Polls[list[pb.BatchHeadResult]]:
    """What came of every portrait, in order, once the batch has ended.

    Raises:
        DeadlineError: It goes on for longer than ``timeout_s``.
        CancelledError: It was cancelled.
    """
    left_s = timeout_s
    while True:
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromNanoseconds(int(min(left_s, _WAIT_S) * 1e9))
        yield Unary(lambda stubs: stubs.operations.WaitOperation, request, _results)
        left_s -= _WAIT_S
        if left_s <= 0:
            raise DeadlineError(f"The batch goes on after {timeout_s:g} s; wait again, or cancel it.")


def cancel_batch(tenant: str, name: str, *, timeout_s: float | None = None) -> Unary[None]:
    """Have a batch stop; portraits in hand are finished."""
    request = operations_pb2.CancelOperationRequest(name=name)
    return Unary(lambda stubs: stubs.operations.CancelOperation, request, lambda _: None, timeout_s)


def delete_batch(tenant: str, name: str, *, timeout_s: float | None = None) -> Unary[None]:
    """Forget a batch that has ended; its heads stay."""
    request = operations_pb2.DeleteOperationRequest(name=name)
    return Unary(lambda stubs: stubs.operations.DeleteOperation, request, lambda _: None, timeout_s)


def _begin(
    tenant: str, request: pb.BatchCreateHeadsRequest, request_id: str | None, timeout_s: float | None
) -> Unary[str]:
    request.parent = f"tenants/{tenant}"
    request.request_id = new_request_id(request_id)
    return Unary(
        lambda stubs: stubs.batches.BatchCreateHeads, request, lambda operation: str(operation.name), timeout_s
    )


def _metadata(operation: Any) -> pb.BatchCreateHeadsMetadata:
    metadata = pb.BatchCreateHeadsMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def _results(operation: Any) -> list[pb.BatchHeadResult] | None:
    if not operation.done:
        return None
    if operation.HasField("error"):
        raise error_of(operation.error)
    response = pb.BatchCreateHeadsResponse()
    operation.response.Unpack(response)
    return list(response.results)
