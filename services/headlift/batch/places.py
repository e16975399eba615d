"""Where a batch reads and writes: a folder, or a prefix of an S3 bucket (``s3://bucket/prefix``).

A file appears whole or not at all. A place is cheap to open again: workers get its URI and the settings.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from headlift.errors import InvalidInputError, NotFoundError, StoreError
from headlift.settings import Settings
from headlift.store.s3_client import as_store_error, connect

if TYPE_CHECKING:
    from minio import Minio

S3 = "s3://"
_PARTIAL = ".partial-"


class Place(Protocol):
    """Named files; names are paths with ``/``. Every method may raise StoreError."""

    uri: str

    def names(self, prefix: str = "") -> Iterator[str]:
        """Every file's name below a folder of it, in the order of its bytes."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file. NotFoundError: there is none."""
        ...

    def read(self, name: str) -> bytes:
        """A file. NotFoundError: there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a file, whole."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no fault."""
        ...


class Folder:
    """Files below a directory, which is made when the first one is written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = str(root)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See Place; what is being written does not count."""
        found = (self._root / prefix).rglob("*")
        names = (p.relative_to(self._root).as_posix() for p in found if p.is_file() and _PARTIAL not in p.name)
        return iter(sorted(names))

    def size(self, name: str) -> int:
        """See Place."""
        try:
            return (self._root / name).stat().st_size
        except OSError:
            raise _missing(name) from None

    def read(self, name: str) -> bytes:
        """See Place."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _missing(name) from None
        except PermissionError:
            raise InvalidInputError(f"{name[-200:]} may not be read.", reason="UNREADABLE_FILE") from None
        except OSError as error:
            raise StoreError(f"{name} cannot be read: {error.strerror}.") from error

    def write(self, name: str, data: bytes) -> None:
        """See Place: beside the place, then renamed; survives a killed writer and a power cut."""
        path = self._root / name
        partial = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o666 & ~_umask())
            os.replace(partial, path)
            partial = None
        except OSError as error:
            raise StoreError(f"{name} cannot be written: {error.strerror}.") from error
        finally:
            if partial is not None:
                Path(partial).unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """See Place."""
        (self._root / name).unlink(missing_ok=True)


class Bucket:
    """Objects below a prefix of a bucket."""

    def __init__(self, client: Minio, bucket: str, prefix: str) -> None:
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"{S3}{bucket}/{self._prefix}"

    def make(self) -> None:
        """Make the bucket where it is missing."""
        with as_store_error():
            if not self._client.bucket_exists(bucket_name=self._bucket):
                self._client.make_bucket(bucket_name=self._bucket)

    def names(self, prefix: str = "") -> Iterator[str]:
        """See Place."""
        below = f"{self._prefix}{prefix}/" if prefix else self._prefix
        with as_store_error():
            for found in self._client.list_objects(bucket_name=self._bucket, prefix=below, recursive=True):
                name = str(found.object_name)
                if not name.endswith("/"):
                    yield name.removeprefix(self._prefix)

    def size(self, name: str) -> int:
        """See Place."""
        with as_store_error():
            found = self._client.stat_object(bucket_name=self._bucket, object_name=self._prefix + name)
        return found.size or 0

    def read(self, name: str) -> bytes:
        """See Place."""
        with as_store_error():
            answer = self._client.get_object(bucket_name=self._bucket, object_name=self._prefix + name)
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

    def write(self, name: str, data: bytes) -> None:
        """See Place."""
        with as_store_error():
            self._client.put_object(
                bucket_name=self._bucket, object_name=self._prefix + name, data=io.BytesIO(data), length=len(data)
            )

    def delete(self, name: str) -> None:
        """See Place."""
        with as_store_error():
            self._client.remove_object(bucket_name=self._bucket, object_name=self._prefix + name)


def open_place(uri: str, settings: Settings, *, make: bool = False) -> Place:
    """The place that ``uri`` names: a path, or ``s3://bucket/prefix`` on the server that ``settings`` name.

    Raises:
        InvalidInputError: No such kind of place, or S3 is not set up.
        StoreError: The bucket cannot be made.
    """
    if not uri.startswith(S3):
        if "://" in uri:
            raise InvalidInputError(f"{uri[:200]} is no place that is known; write a path or s3://BUCKET/PREFIX.")
        return Folder(Path(uri).expanduser())
    url = urlsplit(uri)
    if not url.netloc:
        raise InvalidInputError(f"{uri[:200]} names no bucket; write s3://BUCKET/PREFIX.")
    client = connect(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        settings.s3_region,
        settings.s3_timeout_s,
    )
    # Not urlsplit's path: a key may hold "?" and "#".
    bucket = Bucket(client, url.netloc, uri.removeprefix(S3).partition("/")[2])
    if make:
        bucket.make()
    return bucket


def split_uri(uri: str) -> tuple[str, str]:
    """The place that a file lies in, and its name there."""
    place, _, name = uri.rpartition("/")
    if uri.startswith(S3) and uri.count("/") < 3:
        raise InvalidInputError(f"{uri[:200]} names no object; write s3://BUCKET/KEY.")
    return place or ("/" if uri.startswith("/") else "."), name


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"There is no file {name[-200:]}.", reason="NO_FILE")


def _umask() -> int:
    """mkstemp makes files for their owner alone; results are for whoever the umask lets read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
