"""The runtimes that must behave alike. A new one adds its starter to RUNTIMES and passes the same tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from headlift.backend.protocol import Backend
from headlift.model.splat import available_backends
from headlift.serving.background import BackgroundServer
from headlift.serving.compose import compose
from headlift.settings import Settings
from headlift.v1 import edit_service_pb2_grpc, head_service_pb2_grpc
from headlift.v1 import head_service_pb2 as pb

OPTIONS = [("grpc.max_receive_message_length", 80 << 20), ("grpc.max_send_message_length", 80 << 20)]


@dataclass(frozen=True)
class Runtime:
    """A running service, seen from outside."""

    address: str
    channel: grpc.Channel
    stub: Any
    edits: Any  # the stub of EditService
    blob_keys: Callable[[str], list[str]]  # every stored key below a prefix


def seen(server: BackgroundServer, channel: grpc.Channel) -> Runtime:
    """A server from outside."""
    stub = head_service_pb2_grpc.HeadServiceStub(channel)
    edits = edit_service_pb2_grpc.EditServiceStub(channel)
    return Runtime(server.address, channel, stub, edits, lambda prefix: list(server.service.store.list(prefix)))


@contextmanager
def embedded(settings: Settings) -> Iterator[Runtime]:
    """The grpc.aio server in this process."""
    with (
        BackgroundServer(replace(settings, port=0)) as server,
        grpc.insecure_channel(server.address, OPTIONS) as channel,
    ):
        yield seen(server, channel)


def in_ray(backend: Backend) -> Start:
    """The same server with its stages in Ray; the application is shared, the server and its stores are not."""

    @contextmanager
    def start(settings: Settings) -> Iterator[Runtime]:
        with (
            BackgroundServer(replace(settings, port=0), compose(settings, backend=backend)) as server,
            grpc.insecure_channel(server.address, OPTIONS) as channel,
        ):
            yield seen(server, channel)

    return start


Start = Callable[[Settings], AbstractContextManager[Runtime]]
RUNTIMES: dict[str, Callable[[pytest.FixtureRequest], Start]] = {
    "embedded": lambda _: embedded,
    "ray-fused": lambda request: in_ray(request.getfixturevalue("ray_app")("fused")),
    "ray-split": lambda request: in_ray(request.getfixturevalue("ray_app")("split")),
}


@pytest.fixture(
    scope="session", params=[pytest.param(name, marks=[pytest.mark.server] * ("ray" in name)) for name in RUNTIMES]
)
def start(request: pytest.FixtureRequest) -> Start:
    """Starts the runtime under test."""
    return RUNTIMES[request.param](request)


@pytest.fixture(scope="session")
def settings(
    start: Start, tiny_checkpoint: Path, tiny_edit_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """A tiny network and a store that no other runtime has written to; refinement only where it is asked for."""
    return Settings(
        weights=tiny_checkpoint,
        edit_weights=tiny_edit_weights,
        data_dir=tmp_path_factory.mktemp("store"),
        device="cpu",
        # Named, because "auto" warns where the native backend was not built.
        rasterizer="native" if "native" in available_backends() else "reference",
        refine_steps=0,
        drain_s=1.0,
    )


@pytest.fixture(scope="session")
def runtime(start, settings) -> Iterator[Runtime]:
    """One service for all tests that do not disturb each other."""
    with start(settings) as running:
        yield running


@dataclass(frozen=True)
class Refusal:
    """A failed call."""

    code: str
    message: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    retry_s: float | None


def refusal_of(error: grpc.RpcError) -> Refusal:
    """What a failed call says; its status must have the details that AIP-193 asks for."""
    status = rpc_status.from_call(error)
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    has = {type(m): any(d.Unpack(m) for d in (status.details if status else ())) for m in (info, bad, retry)}
    assert not has[type(info)] or info.domain == "headlift.dev"
    return Refusal(
        code=error.code().name,
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        fields=[v.field for v in bad.field_violations],
        retry_s=retry.retry_delay.ToTimedelta().total_seconds() if has[type(retry)] else None,
    )


@pytest.fixture(scope="session")
def refused() -> Callable[[Callable[[], Any]], Refusal]:
    """Calls something that must be refused."""

    def ask(call: Callable[[], Any]) -> Refusal:
        def finish() -> None:
            answer = call()
            if hasattr(answer, "__next__"):
                list(answer)

        with pytest.raises(grpc.RpcError) as caught:
            finish()
        return refusal_of(caught.value)

    return ask


@pytest.fixture(scope="session")
def head(runtime, portrait_png) -> Any:
    """One head that tests may look at but not delete."""
    request = pb.CreateHeadRequest(parent="tenants/shared", picture=portrait_png, refine_steps=2)
    return runtime.stub.CreateHead(request, timeout=60).head
