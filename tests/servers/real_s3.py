"""Fixtures: a real S3 server (OpenStack Swift with s3api, from Debian's packages), started once per run."""

from __future__ import annotations

import signal
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from minio import Minio

ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
_PYTHON = Path("/usr/bin/python3")  # Debian's, whose packages hold Swift
_PARTS = "import eventlet, swift.account.server, swift.container.server, swift.obj.server, swift.proxy.server, xattr"
_WHY = "no S3 server (Debian: apt-get install python3-swift)"


class RealS3:
    """An S3 server on loopback that can be killed, frozen and started again with what it kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """As HEADLIFT_S3_ENDPOINT takes it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, on the port of the last time."""
        node = Path(__file__).parent / "swift_node.py"
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [_PYTHON, str(node), str(self._folder), str(self.port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self._folder / "log").read_text()[-2000:]
        self.port = int(line)

    def kill(self) -> None:
        """End at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Stop answering without closing anything."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Minio:
        """A client of its own, to look behind the store's back."""
        return Minio(
            endpoint=f"127.0.0.1:{self.port}",
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            secure=False,
            region="us-east-1",
        )


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket name on a server."""

    server: RealS3
    name: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def objects(self) -> dict[str, bytes]:
        """Everything in it."""
        client = self.server.client()
        names = [str(o.object_name) for o in client.list_objects(bucket_name=self.name, recursive=True)]
        return {n: client.get_object(bucket_name=self.name, object_name=n).read() for n in names}


def _missing() -> str:
    """Why there can be no server here; empty where there can."""
    if not _PYTHON.exists():
        return _WHY
    done = subprocess.run([_PYTHON, "-c", _PARTS], capture_output=True, check=False)
    return _WHY if done.returncode else ""


@pytest.fixture(scope="session")
def s3_installed() -> None:
    """Skips where Swift is not installed."""
    if why := _missing():
        pytest.skip(why)


@pytest.fixture(scope="session")
def s3_server(s3_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealS3]:
    """For tests that leave it running."""
    server = RealS3(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def mortal_s3(s3_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealS3]:
    """For tests that kill it."""
    server = RealS3(tmp_path_factory.mktemp("mortal-s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3_bucket(s3_server: RealS3) -> Bucket:
    """A name that nobody used yet; the store makes the bucket."""
    return Bucket(s3_server, f"heads-{uuid.uuid4().hex[:12]}")
