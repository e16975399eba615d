"""The web gateway of an embedded server with tiny networks, on a thread of its own."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headlift.model.splat import available_backends
from headlift.serving.edge.keys import KeyFile
from headlift.serving.embedded import EmbeddedServer
from headlift.settings import Settings
from headlift.web.server import WebServer


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[tuple[str, Any]]:
        found = [
            dict(line.split(": ", 1) for line in part.split("\n")) for part in self.body.decode().split("\n\n")[:-1]
        ]
        return [(one["event"], json.loads(one["data"])) for one in found]


@dataclass
class Browser:
    """As much of a browser as the gateway can see: a cookie, an origin and the editor's header."""

    port: int
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        host = f"localhost:{self.port}"
        self.headers = {"host": host, "origin": f"http://{host}", "x-headlift": "1"} | self.headers

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Answer:
        """One request; None leaves a header out. Underscores in names stand for hyphens."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = self.headers | ({"cookie": self.cookie} if self.cookie else {}) | changed
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None and "content-length" not in sent:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()
        if "set-cookie" in found.headers:
            self.cookie = found.headers["set-cookie"].partition(";")[0]
        return found

    def post_json(self, path: str, value: Any, **headers: str | None) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), content_type="application/json", **headers)

    def enter(self) -> Browser:
        """Begin a session."""
        assert self.ask("GET", "/api/session").status == 200
        return self

    def create(self, picture: bytes, query: str = "") -> Any:
        """The record of a new head."""
        answer = self.ask("POST", f"/api/heads{query}", picture, content_type="image/png")
        assert answer.status == 201, answer.body
        return answer.json()


@dataclass
class Web:
    """A running server."""

    port: int
    server: EmbeddedServer

    def browser(self) -> Browser:
        """One without a session."""
        return Browser(self.port)


@pytest.fixture(scope="session")
def web_settings(tiny_checkpoint, tiny_edit_weights, tmp_path_factory) -> Settings:
    """Everything small, nothing refined unless asked for."""
    return Settings(
        weights=tiny_checkpoint,
        edit_weights=tiny_edit_weights,
        data_dir=tmp_path_factory.mktemp("store"),
        device="cpu",
        rasterizer="native" if "native" in available_backends() else "reference",
        refine_steps=0,
        picture_bytes_max=4 << 20,
        drain_s=5.0,
        port=0,
        web_port=0,
        web_names="heads.example:8443",
    )


@pytest.fixture(scope="session")
def web(web_settings, portrait_png) -> Iterator[Web]:
    """Running."""
    with serving(web_settings, portrait_png) as running:
        yield running


@pytest.fixture(scope="session")
def keyed(web_settings, portrait_png, tmp_path_factory) -> Iterator[tuple[Web, str]]:
    """A server that asks for keys and has no editing weights, and a key for it."""
    folder = tmp_path_factory.mktemp("keyed")
    keys = folder / "keys.json"
    key, _ = KeyFile(keys).create("acme", ["read", "write", "stages"])
    settings = dataclasses.replace(
        web_settings, data_dir=folder / "store", auth="keys", keys_file=keys, edit_weights=folder / "none"
    )
    with serving(settings, portrait_png) as running:
        yield running, key


@contextmanager
def serving(settings: Settings, sample: bytes) -> Iterator[Web]:
    """A server on a thread of its own."""
    ready, running, failed = threading.Event(), [], []

    async def serve() -> None:
        with tempfile.TemporaryDirectory() as folder:
            private = Path(folder) / "grpc.sock"
            async with (
                EmbeddedServer(settings, private_socket=private) as server,
                WebServer(settings, server, private, lambda: sample) as web,
            ):
                leave = asyncio.Event()
                running.append((Web(web.port, server), asyncio.get_running_loop(), leave))
                ready.set()
                await leave.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    found, loop, leave = running[0]
    yield found
    loop.call_soon_threadsafe(leave.set)
    thread.join()
    if failed:
        raise failed[0]
