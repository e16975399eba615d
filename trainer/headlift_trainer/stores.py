"""Where a run keeps its files: a folder, or a prefix of an S3 bucket (``s3://bucket/prefix``).

A file appears whole or not at all. Nothing here knows what the files hold.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from headlift.errors import InvalidInputError, NotFoundError
from headlift.settings import Settings

if TYPE_CHECKING:
    from minio import Minio

Write = Callable[[Path], None]
_SCHEME = "s3://"
_TIMEOUT_S = 60.0


class Store(Protocol):
    """Named files of one run."""

    def names(self) -> list[str]:
        """Every file's name, sorted."""
        ...

    def put(self, name: str, write: Write) -> None:
        """Make or replace a file with what `write` writes to the path that it is given."""
        ...

    def opened(self, name: str) -> AbstractContextManager[Path]:
        """The path of a readable copy, within the block; NotFoundError where there is no such file."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no fault."""
        ...


class FolderStore:
    """Files in a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """Every file's name, sorted; half-written ones do not count."""
        return sorted(p.name for p in self.folder.iterdir() if p.is_file() and not p.name.endswith(".partial"))

    def put(self, name: str, write: Write) -> None:
        """Write beside the place, then rename: a reader never sees half a file, a killed writer leaves none."""
        partial = self.folder / f"{name}.{os.getpid()}.partial"
        try:
            write(partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(self.folder / name)
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """The file itself."""
        path = self.folder / name
        if not path.is_file():
            raise NotFoundError(f"There is no file {name} in this run's folder.")
        yield path

    def delete(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink(missing_ok=True)


class S3Store:
    """Objects under a prefix of a bucket; the bucket is made where it is missing."""

    def __init__(self, client: Minio, bucket: str, prefix: str) -> None:
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        with _as_store_error():
            if not client.bucket_exists(bucket_name=bucket):
                client.make_bucket(bucket_name=bucket)

    def names(self) -> list[str]:
        """Every object's name below the prefix, sorted."""
        with _as_store_error():
            found = list(self._client.list_objects(bucket_name=self._bucket, prefix=self._prefix))
        names = [str(o.object_name).removeprefix(self._prefix) for o in found if not o.is_dir]
        return sorted(name for name in names if name)

    def put(self, name: str, write: Write) -> None:
        """Upload; S3 shows an object only once it is whole."""
        with tempfile.TemporaryDirectory(prefix="headlift-") as scratch:
            path = Path(scratch) / name
            write(path)
            with _as_store_error():
                self._client.fput_object(bucket_name=self._bucket, object_name=self._prefix + name, file_path=str(path))

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """A downloaded copy."""
        with tempfile.TemporaryDirectory(prefix="headlift-") as scratch:
            path = Path(scratch) / name
            with _as_store_error():
                self._client.fget_object(bucket_name=self._bucket, object_name=self._prefix + name, file_path=str(path))
            yield path

    def delete(self, name: str) -> None:
        """Remove an object."""
        with _as_store_error():
            self._client.remove_object(bucket_name=self._bucket, object_name=self._prefix + name)


def open_store(out: Path | str, settings: Settings | None = None) -> Store:
    """The store at a folder or an ``s3://bucket/prefix`` URL, whose server and keys come from the settings.

    Raises:
        InvalidInputError: The URL names no bucket, or the settings name no S3 server or keys.
        StoreError: The S3 server cannot be used.
    """
    if not is_remote(out):
        return FolderStore(Path(out))
    url = urlsplit(str(out))
    if not url.netloc:
        raise InvalidInputError(f"{out} names no bucket; write s3://BUCKET/PREFIX.")
    settings = settings or Settings.from_env()
    if not settings.s3_endpoint or not settings.s3_access_key or not settings.s3_secret_key:
        raise InvalidInputError(
            f"{out} needs a server and keys: set HEADLIFT_S3_ENDPOINT, HEADLIFT_S3_ACCESS_KEY and "
            "HEADLIFT_S3_SECRET_KEY, or write to a folder."
        )
    # Imported here: runs that write to folders need no S3 client.
    from headlift.store import s3_client

    # Checkpoints are larger than heads: the server may take its time to join their parts.
    timeout_s = max(settings.s3_timeout_s, _TIMEOUT_S)
    client = s3_client.connect(
        settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key, settings.s3_region, timeout_s
    )
    return S3Store(client, url.netloc, url.path)


def is_remote(out: Path | str) -> bool:
    """Whether this is an S3 URL and no folder."""
    return str(out).startswith(_SCHEME)


def _as_store_error() -> AbstractContextManager[None]:
    from headlift.store.s3_client import as_store_error

    return as_store_error()
