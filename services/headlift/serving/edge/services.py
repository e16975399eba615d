"""The public gRPC services, ready to be added to a server and described by reflection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.descriptor import ServiceDescriptor

from headlift.backend.workers import Workers
from headlift.gateway.batch.runner import Batches
from headlift.gateway.batch.service import BatchServicer, OperationsServicer
from headlift.gateway.paging import PageTokens
from headlift.stages.rpc import STAGE_RPCS, Handler, StageHandlers, StageServicer
from headlift.v1 import (
    batch_service_pb2,
    batch_service_pb2_grpc,
    edit_service_pb2,
    edit_service_pb2_grpc,
    head_service_pb2,
    head_service_pb2_grpc,
)


@dataclass(frozen=True)
class ServedService:
    """One service: its descriptor, gRPC's generated function that adds it, and its servicer.

    Servicers get a CallContext where the generated signatures say ServicerContext: see ``interceptor``.
    """

    descriptor: ServiceDescriptor
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any

    @property
    def name(self) -> str:
        """Full name."""
        return str(self.descriptor.full_name)


def head_service(servicer: Any) -> ServedService:
    """HeadService."""
    descriptor = head_service_pb2.DESCRIPTOR.services_by_name["HeadService"]
    return ServedService(descriptor, head_service_pb2_grpc.add_HeadServiceServicer_to_server, servicer)


def edit_service(servicer: Any) -> ServedService:
    """EditService."""
    descriptor = edit_service_pb2.DESCRIPTOR.services_by_name["EditService"]
    return ServedService(descriptor, edit_service_pb2_grpc.add_EditServiceServicer_to_server, servicer)


def batch_services(batches: Batches, tokens: PageTokens) -> tuple[ServedService, ...]:
    """BatchService, and the Operations that its calls return."""
    return (
        ServedService(
            batch_service_pb2.DESCRIPTOR.services_by_name["BatchService"],
            batch_service_pb2_grpc.add_BatchServiceServicer_to_server,
            BatchServicer(batches),
        ),
        ServedService(
            operations_pb2.Operation.DESCRIPTOR.file.services_by_name["Operations"],
            operations_pb2_grpc.add_OperationsServicer_to_server,
            OperationsServicer(batches, tokens),
        ),
    )


def stage_services(handlers: StageHandlers, creating: Workers, rendering: Workers) -> tuple[ServedService, ...]:
    """The five stage services on the pools that HeadService uses too, so that one admission bounds both."""

    def on(workers: Workers, handler: Handler[Any, Any]) -> Callable[[Any], Awaitable[Any]]:
        return lambda request: workers.run(lambda token: handler(request, token))

    return tuple(
        ServedService(
            rpc.service,
            rpc.add,
            StageServicer(rpc, on(creating if rpc.makes_heads else rendering, getattr(handlers, stage))),
        )
        for stage, rpc in STAGE_RPCS.items()
    )
