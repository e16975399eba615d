"""The embedded server: one process, grpc.aio, a file store, nothing else to install."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headlift.errors import StoreError
from headlift.serving.compose import Service, compose
from headlift.serving.guard import Guard
from headlift.settings import Settings
from headlift.v1 import head_service_pb2, head_service_pb2_grpc

_log = logging.getLogger(__name__)
SERVICE = head_service_pb2.DESCRIPTOR.services_by_name["HeadService"].full_name
MESSAGE_BYTES_MAX = 72 << 20  # above every limit of our own, so that ours are the ones that speak
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),  # two servers on one port must collide, not share it
]
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class EmbeddedServer:
    """An ``async with`` server; serves from entering to leaving.

    Attributes:
        port: The port that was taken.
        service: What it serves.
    """

    port: int
    service: Service

    def __init__(self, settings: Settings, service: Service | None = None) -> None:
        """``service`` replaces what ``settings`` would compose; the server closes it in the end."""
        self.settings = settings
        self._given = service

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        host = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::", "[::]") else self.settings.host  # noqa: S104
        return f"{host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Load, listen, warm up; health says SERVING when this returns.

        Raises:
            WeightsError: The network cannot be loaded.
            StoreError: The port is taken, or the store cannot be opened.
            BackendUnavailableError: The device does not exist here.
        """
        self._server = grpc.aio.server(interceptors=[Guard(self.settings.deadline_s)], options=_OPTIONS)
        self.port = self._listen()  # before the network is loaded: a port that is taken shows at once
        given = self._given
        self.service = given if given is not None else await asyncio.to_thread(compose, self.settings)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        # The guard hands servicers a CallContext, which the generated signature cannot know.
        head_service_pb2_grpc.add_HeadServiceServicer_to_server(self.service.servicer, self._server)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        await self._set_health(_NOT_SERVING)
        await self._server.start()
        try:
            await asyncio.to_thread(self.service.warm_up)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        await self._set_health(_SERVING)
        _log.info("serving on %s with %s", self.address, self.service.about)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say NOT_SERVING, let running calls finish for ``drain_s``, then close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.settings.drain_s)
        await asyncio.to_thread(self.service.close)

    async def wait(self) -> None:
        """Until the server has ended."""
        await self._server.wait_for_termination()

    def _listen(self) -> int:
        try:
            return self._server.add_insecure_port(f"{self.settings.host}:{self.settings.port}")
        except RuntimeError:
            raise StoreError(
                f"{self.settings.host}:{self.settings.port} cannot be listened on; stop what uses it, or choose "
                "another port (0: any).",
                reason="PORT_TAKEN",
            ) from None

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)
