"""BatchService, and google.longrunning.Operations for what it begins."""
# ruff: noqa: N802 -- RPC names are the contract's

from __future__ import annotations

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from headlift.errors import InvalidInputError
from headlift.gateway import validation
from headlift.gateway.batch.parsing import parse_operation
from headlift.gateway.batch.runner import Batches
from headlift.gateway.context import CallContext, check_alive
from headlift.gateway.paging import PageTokens
from headlift.v1 import batch_service_pb2 as pb

_REPLY_S = 0.5  # of a caller's time, reserved for the reply


class BatchServicer:
    """The RPC of headlift.v1.BatchService."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    async def BatchCreateHeads(
        self, request: pb.BatchCreateHeadsRequest, context: CallContext
    ) -> operations_pb2.Operation:
        """See the contract."""
        check_alive(context)
        return await self._batches.submit(request)


class OperationsServicer:
    """The RPCs of google.longrunning.Operations."""

    def __init__(self, batches: Batches, tokens: PageTokens) -> None:
        self._batches, self._tokens = batches, tokens

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: CallContext
    ) -> operations_pb2.Operation:
        """See the contract."""
        check_alive(context)
        return await self._batches.get(parse_operation(request.name))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: CallContext
    ) -> operations_pb2.ListOperationsResponse:
        """See the contract; ``name`` is tenants/{tenant}, in the order of ids, which is no order of time."""
        check_alive(context)
        if request.filter:
            raise InvalidInputError("Operations cannot be filtered here; leave filter empty.", field="filter")
        parent = request.name.removesuffix("/operations")
        tenant, size = validation.parse_parent(parent), validation.page_size(request.page_size)
        after = self._tokens.read(f"{parent}/operations", request.page_token)
        # One more than the page holds tells whether there is another page.
        found = await self._batches.list(tenant, after, size + 1)
        page = found[:size]
        last = parse_operation(page[-1].name).operation if len(found) > size else ""
        token = self._tokens.make(f"{parent}/operations", last) if last else ""
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=token)

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: CallContext
    ) -> operations_pb2.Operation:
        """See the contract: the operation once it is done, or as it stands when the time is over."""
        check_alive(context)
        asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else None
        left = context.time_remaining_s()
        bounds = [s for s in (asked, None if left is None else max(left - _REPLY_S, 0.0)) if s is not None]
        return await self._batches.wait(parse_operation(request.name), min(bounds, default=None))

    async def CancelOperation(
        self, request: operations_pb2.CancelOperationRequest, context: CallContext
    ) -> empty_pb2.Empty:
        """See the contract: items that have begun are finished, the others are not begun."""
        check_alive(context)
        await self._batches.cancel(parse_operation(request.name))
        return empty_pb2.Empty()

    async def DeleteOperation(
        self, request: operations_pb2.DeleteOperationRequest, context: CallContext
    ) -> empty_pb2.Empty:
        """See the contract: the record is deleted, the heads stay; an unfinished one is refused."""
        check_alive(context)
        await self._batches.delete(parse_operation(request.name))
        return empty_pb2.Empty()
