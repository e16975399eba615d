"""The server: one process, grpc.aio, and the edge in front of whatever service it is given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headlift.errors import StoreError
from headlift.serving.compose import Service, compose
from headlift.serving.edge.auth import Caller
from headlift.serving.edge.compose import compose_edge, credentials, server_options
from headlift.serving.edge.interceptor import AuthInterceptor, FinishedCall
from headlift.serving.edge.services import ServedService, head_service
from headlift.settings import Settings

_log = logging.getLogger(__name__)
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
_RECORD = "/record"  # one per head


class EmbeddedServer:
    """An ``async with`` server; serves from entering to leaving.

    Attributes:
        port: The port that was taken.
        service: What it serves.
        draining: Set when the server begins to leave; every CallContext has it too.
        service_names: Full names of the gRPC services, health and reflection left out.
    """

    port: int
    service: Service
    service_names: tuple[str, ...]

    def __init__(
        self,
        settings: Settings,
        service: Service | None = None,
        *,
        further: Sequence[ServedService] = (),
        observers: Sequence[Callable[[FinishedCall], None]] = (),
        private_socket: Path | None = None,
    ) -> None:
        """Nothing is opened or read yet.

        Args:
            settings: As a whole.
            service: Replaces what ``settings`` would compose; the server closes it in the end.
            further: gRPC services besides HeadService.
            observers: Called with every call that has ended; see EdgePolicy.
            private_socket: Listen at this Unix socket too, in the clear: for other faces of this process, which pass
                the edge like everybody else.
        """
        self.settings = settings
        self.draining = asyncio.Event()
        self._given = service
        self._further = tuple(further)
        self._observers = tuple(observers)
        self._private_socket = private_socket

    @property
    def address(self) -> str:
        """HOST:PORT for clients."""
        host = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::", "[::]") else self.settings.host  # noqa: S104
        return f"{host}:{self.port}"

    @property
    def listening(self) -> str:
        """HOST:PORT that is bound; on a wildcard address not what clients of other machines dial."""
        return f"{self.settings.host}:{self.port}"

    def caller(self, metadata: Mapping[str, str]) -> Caller | None:
        """Whose the credentials in ``metadata`` are; None where nobody is asked. UnauthenticatedError: nobody's."""
        return self._policy.authenticator.authenticate(metadata)

    async def __aenter__(self) -> Self:
        """Load, listen, warm up; health says SERVING when this returns.

        Raises:
            InvalidInputError: A certificate or key file of the edge is of no use.
            WeightsError: The network cannot be loaded.
            StoreError: The port is taken, or the store cannot be opened.
            BackendUnavailableError: The device does not exist here.
        """
        self._policy = compose_edge(self.settings, self._count_heads, self._observers, self.draining)
        self._server = grpc.aio.server(
            interceptors=[AuthInterceptor(self._policy)], options=server_options(self.settings)
        )
        self.port = self._listen()  # before the network is loaded: a port that is taken shows at once
        given = self._given
        self.service = given if given is not None else await asyncio.to_thread(compose, self.settings)
        self._register((head_service(self.service.servicer), *self.service.further, *self._further))
        await self._set_health(_NOT_SERVING)
        await self._server.start()
        try:
            await asyncio.to_thread(self.service.warm_up)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        if self.service.batches is not None:
            self.service.batches.allowed = self._policy.quotas.making_one
            self.service.batches.start()
        await self._set_health(_SERVING)
        _log.info("serving on %s with %s", self.listening, self.service.about)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say NOT_SERVING, take no more calls, let running ones finish for ``drain_s``, then close."""
        self.draining.set()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self.settings.drain_s)
        if self.service.batches is not None:
            await self.service.batches.close()
        await self._policy.quotas.close()
        await asyncio.to_thread(self.service.close)

    async def wait(self) -> None:
        """Until the server has ended."""
        await self._server.wait_for_termination()

    def _register(self, served: Sequence[ServedService]) -> None:
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for one in served:
            one.add(one.servicer, self._server)
        self.service_names = tuple(one.name for one in served)
        if self.settings.reflection != "off":
            names = (*self.service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    def _listen(self) -> int:
        target, secure = f"{self.settings.host}:{self.settings.port}", credentials(self.settings)
        try:
            if self._private_socket is not None:
                self._server.add_insecure_port(f"unix:{self._private_socket}")
            if secure is not None:
                return self._server.add_secure_port(target, secure)
            return self._server.add_insecure_port(target)
        except RuntimeError:
            raise StoreError(
                f"{target} cannot be listened on; stop what uses it, or choose another port (0: any).",
                reason="PORT_TAKEN",
            ) from None

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", *self.service_names):
            await self._health.set(name, status)

    async def _count_heads(self, tenant: str) -> int:
        keys = self.service.store.list
        return await asyncio.to_thread(lambda: sum(k.endswith(_RECORD) for k in keys(f"tenants/{tenant}/heads")))
