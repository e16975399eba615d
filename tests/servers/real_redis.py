"""Fixtures: a real redis-server, with a password, on a free port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from headlift.store.redis import RedisStore, connect

PASSWORD = "correct horse"


class RealRedis:
    """A redis-server that can be killed, frozen, and started again, empty."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """As HEADLIFT_REDIS_URL takes it."""
        return f"redis://:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start on the same port as before and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--requirepass", PASSWORD, "--dir", str(self._folder), *self._options],
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """End at once; everything in it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop answering; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer again, also what came meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client of its own, to look behind the store's back."""
        return redis.Redis(host="127.0.0.1", port=self.port, password=PASSWORD, socket_timeout=5)

    def held(self) -> list[str]:
        """Every key in it."""
        with self.client() as client:
            return sorted(k.decode() for k in client.scan_iter(count=1000))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def redis_installed() -> None:
    """Skips where there is no redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH (Debian: apt-get install redis-server)")


@pytest.fixture(scope="session")
def _session_redis(redis_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    server = RealRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(_session_redis: RealRedis) -> RealRedis:
    """Empty, for tests that leave it running."""
    with _session_redis.client() as client:
        client.flushall()
    return _session_redis


@pytest.fixture
def mortal_redis(redis_installed: None, tmp_path: Path) -> Iterator[RealRedis]:
    """For tests that kill or freeze it."""
    server = RealRedis(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def in_redis(redis_server: RealRedis) -> Iterator[RedisStore]:
    """A blob store in it; its wait is long, since test machines stutter."""
    store = RedisStore(connect(redis_server.url, 2.0))
    yield store
    store.close()
