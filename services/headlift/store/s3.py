"""The durable tier: blobs as objects in a bucket of an S3 server (AWS, MinIO, Ceph, Swift).

Object names are ``kept/KEY``, and ``derived/KEY`` for what can be computed again, so that one lifecycle rule of the
bucket can expire the latter. What is written is checked by the server (signed SHA-256 of the body, or MD5 under TLS,
and ``x-amz-checksum-sha256`` where the server knows it); what is read is checked by the envelope (store/sealed.py).
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import io
import logging
import math
import re
from collections.abc import Iterator

from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    Expiration,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.sse import Sse

from headlift.errors import NotFoundError, StoreError
from headlift.store.blobs import Durability, Entry, check_key
from headlift.store.s3_client import as_store_error

_log = logging.getLogger(__name__)
_DERIVED = re.compile(r"tenants/[^/]+/(derived|renders)(/|$)")
_ABOVE_DERIVED = re.compile(r"tenants(/[^/]+)?")
_RULE = "headlift-"


class S3Store:
    """A BlobStore in one bucket, which is made where it is missing. Safe with many threads and processes at once."""

    def __init__(
        self, client: Minio, bucket: str, *, part_bytes: int = 16 << 20, encryption: Sse | None = None
    ) -> None:
        """Blobs above ``part_bytes`` (at least 5 MiB) travel in parts; ``encryption`` is asked of the server.

        Raises:
            StoreError: The server cannot be used, or refuses us.
        """
        self._client, self._bucket = client, bucket
        self._part_bytes, self._encryption = part_bytes, encryption
        with as_store_error():
            if not client.bucket_exists(bucket_name=bucket):
                _make_bucket(client, bucket)

    def put(self, key: str, blob: bytes, *, durability: Durability = Durability.DURABLE) -> None:
        """See BlobStore.put; objects are always durable. S3 shows an object only once it is whole."""
        name = object_name(check_key(key))
        checked: dict[str, str | list[str] | tuple[str]] = {}
        if len(blob) <= self._part_bytes:
            digest = hashlib.sha256(blob).digest()
            checked = {"x-amz-checksum-sha256": base64.b64encode(digest).decode()}
        with as_store_error():
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=name,
                data=io.BytesIO(blob),
                length=len(blob),
                part_size=0 if checked else self._part_bytes,
                sse=self._encryption,
                metadata=checked or None,
            )

    def get(self, key: str) -> bytes | None:
        """See BlobStore.get."""
        name = object_name(check_key(key))
        try:
            with as_store_error():
                response = self._client.get_object(bucket_name=self._bucket, object_name=name)
                try:
                    return bytes(response.read())
                finally:
                    response.close()
                    response.release_conn()
        except NotFoundError:
            return None

    def get_again(self, key: str, damaged: bytes) -> bytes | None:
        """See BlobStore.get_again: the bytes may have been damaged on their way."""
        blob = self.get(key)
        return blob if blob != damaged else None

    def exists(self, key: str) -> bool:
        """See BlobStore.exists."""
        name = object_name(check_key(key))
        try:
            with as_store_error():
                self._client.stat_object(bucket_name=self._bucket, object_name=name)
        except NotFoundError:
            return False
        return True

    def delete(self, key: str) -> bool:
        """See BlobStore.delete."""
        if not self.exists(key):
            return False
        with as_store_error():
            self._client.remove_object(bucket_name=self._bucket, object_name=object_name(key))
        return True

    def delete_all(self, prefix: str) -> int:
        """See BlobStore.delete_all; a thousand objects per request."""
        names = [object_name(key) for key in self.list(prefix)]
        if not names:
            return 0
        with as_store_error():
            kept = list(
                self._client.remove_objects(
                    bucket_name=self._bucket, delete_object_list=[DeleteObject(n) for n in names]
                )
            )
        if kept:
            raise StoreError(f"The S3 server kept {len(kept)} of {len(names)} objects ({kept[0].code}); delete again.")
        return len(names)

    def list(self, prefix: str) -> Iterator[str]:
        """See BlobStore.list."""
        return (entry.key for entry in self.entries(prefix))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See BlobStore.entries."""
        check_key(prefix)
        folders = ["derived"] if _DERIVED.match(prefix) else ["kept"]
        if _ABOVE_DERIVED.fullmatch(prefix):
            folders = ["derived", "kept"]
        return heapq.merge(*(self._in_folder(folder, prefix) for folder in folders), key=lambda entry: entry.key)

    def probe(self) -> None:
        """Raise StoreError unless the bucket can be used."""
        with as_store_error():
            if not self._client.bucket_exists(bucket_name=self._bucket):
                raise StoreError("The S3 bucket for heads is gone; make it again.")

    def set_lifecycle(self, derived_days: float) -> bool:
        """Have the server expire derived blobs by itself, and what broken uploads and old versions leave.

        Rules of others stay. False where the server knows no lifecycles; the sweeper of retention.py does it then.
        """
        try:
            current = self._client.get_bucket_lifecycle(bucket_name=self._bucket)
            others = [r for r in (current.rules if current else []) if not (r.rule_id or "").startswith(_RULE)]
            self._client.set_bucket_lifecycle(
                bucket_name=self._bucket, config=LifecycleConfig(others + lifecycle_rules(derived_days))
            )
        except S3Error as error:
            _log.warning("the S3 server takes no lifecycle (%s); the sweeper alone removes what is too old", error.code)
            return False
        except Exception as error:
            # A server without lifecycles may also answer with something that is no XML at all.
            _log.warning("the bucket's lifecycle could not be set (%s)", type(error).__name__)
            return False
        return True

    def _in_folder(self, folder: str, prefix: str) -> Iterator[Entry]:
        with as_store_error():
            for found in self._client.list_objects(
                bucket_name=self._bucket, prefix=f"{folder}/{prefix}/", recursive=True
            ):
                assert found.object_name is not None
                written = found.last_modified.timestamp() if found.last_modified else 0.0
                yield Entry(found.object_name.partition("/")[2], written)


def object_name(key: str) -> str:
    """Where a blob lies in the bucket."""
    return f"{'derived' if _DERIVED.match(key) else 'kept'}/{key}"


def lifecycle_rules(derived_days: float) -> list[Rule]:
    """The rules of a bucket; S3 counts whole days, so parts of one are rounded up."""
    tidy = Rule(
        status=ENABLED,
        rule_id=f"{_RULE}tidy",
        rule_filter=Filter(prefix=""),
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=1),
        # What was deleted must really go, also from a bucket that keeps versions.
        noncurrent_version_expiration=NoncurrentVersionExpiration(noncurrent_days=1),
    )
    if not derived_days:
        return [tidy]
    derived = Rule(
        status=ENABLED,
        rule_id=f"{_RULE}derived",
        rule_filter=Filter(prefix="derived/"),
        expiration=Expiration(days=math.ceil(derived_days)),
    )
    return [tidy, derived]


def _make_bucket(client: Minio, bucket: str) -> None:
    try:
        client.make_bucket(bucket_name=bucket)
    except S3Error as error:
        if error.code != "BucketAlreadyOwnedByYou":  # another process was faster
            raise
