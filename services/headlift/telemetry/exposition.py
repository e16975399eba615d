"""HTTP for Prometheus (metrics) and for container runtimes (health)."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from prometheus_client import disable_created_metrics, generate_latest, make_wsgi_app, start_http_server

from headlift.errors import StoreError
from headlift.telemetry.metrics import Metrics, metrics

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

HEALTH_PATH = "/healthz"


def exposed(source: Metrics | None = None) -> bytes:
    """``source``'s metrics (this process's) in Prometheus' text format."""
    # `_created` series would double what Prometheus stores, and no dashboard reads them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return generate_latest((source or metrics()).registry)


class MetricsServer:
    """A ``with`` block that serves metrics at every path but ``/healthz``, from a thread of its own.

    ``/healthz`` answers 200 while ``serving``, else 503. Without credentials or TLS, so that probes need neither; let
    it listen where only the monitoring can reach it.

    Attributes:
        port: The port that was taken.
        serving: Whether ``/healthz`` answers 200; set by the server.
    """

    port: int
    serving: bool = False

    def __init__(self, port: int, host: str = "127.0.0.1", source: Metrics | None = None) -> None:
        """Port 0 takes a free one."""
        self._port, self._host = port, host
        self._source = source

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            StoreError: The port is taken.
        """
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = (self._source or metrics()).registry
        try:
            self._server, self._thread = start_http_server(self._port, self._host, registry)
        except OSError:
            raise StoreError(
                f"{self._host}:{self._port} cannot be listened on for metrics; choose another "
                "HEADLIFT_METRICS_PORT (0: none).",
                reason="PORT_TAKEN",
            ) from None
        self.port = int(self._server.server_port)
        metrics_app: Any = make_wsgi_app(registry)

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            if environ.get("PATH_INFO") == HEALTH_PATH:
                return self._health(start)
            return metrics_app(environ, start)  # type: ignore[no-any-return]

        self._server.set_app(answer)
        return self

    def _health(self, start: StartResponse) -> Iterable[bytes]:
        status, text = ("200 OK", b"SERVING\n") if self.serving else ("503 Service Unavailable", b"NOT_SERVING\n")
        start(status, [("Content-Type", "text/plain")])
        return [text]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
