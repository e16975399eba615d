"""A composed service with a tiny network, and a caller without a network in between."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import headlift
from headlift.gateway.context import LocalContext
from headlift.gateway.live.options import LiveLimits
from headlift.gateway.live.service import Live
from headlift.gateway.pipeline import Pipeline
from headlift.model.splat import available_backends
from headlift.serving.compose import compose
from headlift.settings import Settings
from headlift.v1 import head_service_pb2, picture_pb2
from headlift.v1 import live_pb2 as pb

_PACKAGE = str(Path(headlift.__file__).parent) + "/"
LOOK = picture_pb2.PictureOptions(width_px=48, height_px=32, format=picture_pb2.PICTURE_FORMAT_JPEG)


@dataclass(frozen=True)
class Context(LocalContext):
    """A call whose server can be told to leave."""

    draining: asyncio.Event = field(default_factory=asyncio.Event)


class Slow:
    """The real pipeline behind a gate: nothing is rendered while it is shut."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.near: list[tuple[float, ...] | None] = []

    async def inspect(self, creation: Any) -> Any:
        return await self._pipeline.inspect(creation)

    async def reconstruct(self, creation: Any) -> Any:
        self.near.append(creation.near)
        return await self._pipeline.reconstruct(creation)

    async def render(self, head: Any, cameras: Any, look: Any) -> Any:
        self.asked += 1
        await self.gate.wait()
        return await self._pipeline.render(head, cameras, look)


class Talk:
    """A stream of both directions, as a caller holds it."""

    def __init__(self, live: Live, context: Context) -> None:
        self._requests: asyncio.Queue[pb.LiveRequest | None] = asyncio.Queue()
        self.context = context
        self.answers = live.answers(self._read(), context)

    async def _read(self) -> AsyncIterator[pb.LiveRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    def say(self, **message: Any) -> None:
        self._requests.put_nowait(pb.LiveRequest(**message))

    def look(self, sequence: int, yaw_deg: float = 0.0) -> None:
        viewpoint = pb.LiveViewpoint(sequence=sequence, timestamp_us=1000 + sequence)
        viewpoint.camera.orbit.yaw_deg = yaw_deg
        self.say(viewpoint=viewpoint)

    def frame(self, sequence: int, picture: bytes) -> None:
        self.say(frame=pb.LiveFrame(sequence=sequence, picture=picture, timestamp_us=1000 + sequence))

    def hang_up(self) -> None:
        self._requests.put_nowait(None)

    async def hear(self, kind: str = "") -> Any:
        """The next message, which must be of this kind."""
        answer = await asyncio.wait_for(anext(self.answers), 30)
        if not kind:
            return answer
        assert answer.WhichOneof("message") == kind, answer
        return getattr(answer, kind)

    async def rest(self) -> list[pb.LiveResponse]:
        """Everything until the end."""
        return [a async for a in self.answers]


@pytest.fixture(scope="session")
def portrait_png(portrait_png) -> bytes:
    """At a size that frames of a stream are looked at quickly."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(portrait_png)).convert("RGB").resize((160, 160), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def service(tiny_checkpoint, tmp_path_factory) -> Any:
    backend = "native" if "native" in available_backends() else "reference"
    folder = tmp_path_factory.mktemp("store")
    settings = Settings(weights=tiny_checkpoint, data_dir=folder, device="cpu", rasterizer=backend, refine_steps=0)
    composed = compose(settings)
    yield composed
    composed.close()


@pytest.fixture(scope="session")
def head(service, portrait_png) -> Any:
    """A stored head, made on an event loop of its own."""
    made: list[Any] = []

    def create() -> None:
        request = head_service_pb2.CreateHeadRequest(parent="tenants/live", picture=portrait_png)
        made.append(asyncio.run(service.servicer.CreateHead(request, LocalContext())).head)

    thread = threading.Thread(target=create)
    thread.start()
    thread.join()
    return made[0]


@pytest.fixture
def live_with(service) -> Callable[..., Live]:
    """Live sessions of the service under other limits, or over another pipeline."""
    servicer = service.servicer

    def make(pipeline: Pipeline | None = None, **limits: Any) -> Live:
        parts = (servicer._creator, servicer._heads, servicer._tokens, servicer._storing)
        return Live(pipeline or servicer._pipeline, *parts, LiveLimits(**limits))

    return make


@pytest.fixture
def opening(head) -> Callable[..., pb.LiveOpen]:
    """A LiveOpen on the stored head, or on frames."""

    def make(frames: bool = False, **fields: Any) -> pb.LiveOpen:
        source = {"frames": pb.LiveFrames()} if frames else {"head": head.name}
        if "portrait" in fields or "resume_token" in fields:
            source = {}
        look = {} if "resume_token" in fields else {"picture": LOOK}
        return pb.LiveOpen(**({"parent": "tenants/live"} | look | source | fields))

    return make


@pytest.fixture
async def talk(live_with, opening) -> Any:
    """Opens sessions; in the end nothing of them may be left."""
    talks: list[tuple[Talk, Live]] = []

    async def begin(live: Live | None = None, message: pb.LiveOpen | None = None, **fields: Any) -> Talk:
        live = live or live_with()
        talk = Talk(live, Context())
        talks.append((talk, live))
        talk.say(open=message or opening(**fields))
        return talk

    yield begin
    for one, _ in talks:
        await one.answers.aclose()
    assert all(live.slots.taken == 0 for _, live in talks)
    await asyncio.sleep(0)
    ours = [t for t in asyncio.all_tasks() if t.get_coro().cr_code.co_filename.startswith(_PACKAGE)]
    assert ours == []


@pytest.fixture
def slow(service) -> Slow:
    """The service's pipeline behind a gate that is open at first."""
    return Slow(service.servicer._pipeline)
