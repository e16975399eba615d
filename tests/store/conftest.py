"""Every kind of blob store, each on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_s3 import Bucket, RealS3

from headlift.store import s3_client
from headlift.store.blobs import BlobStore
from headlift.store.breaker import Breaker, BreakerStore
from headlift.store.files import FileStore
from headlift.store.redis import RedisStore
from headlift.store.s3 import S3Store
from headlift.store.tiered import TieredStore


def s3_store(bucket: Bucket, timeout_s: float = 20.0, **options: object) -> S3Store:
    """A store in a bucket of a running server."""
    client = s3_client.connect(bucket.server.endpoint, bucket.access_key, bucket.secret_key, "us-east-1", timeout_s)
    return S3Store(client, bucket.name, **options)  # type: ignore[arg-type]


def quick(tier: str, revive: Callable[[], object]) -> Breaker:
    """A breaker that tries again soon."""
    return Breaker(tier, revive, first_s=0.05, longest_s=0.2)


@pytest.fixture
def in_s3(s3_bucket: Bucket) -> S3Store:
    """The durable tier alone."""
    return s3_store(s3_bucket)


@pytest.fixture
def tiers(in_redis: RedisStore, tmp_path: Path) -> Iterator[TieredStore]:
    """Redis over files: tests of tiers that need no S3 are quicker so."""
    store = TieredStore(in_redis, FileStore(tmp_path / "durable"), breaker=quick)
    yield store
    store.close()


@pytest.fixture(
    params=["files", "breaker", *(pytest.param(name, marks=pytest.mark.server) for name in ("redis", "s3", "tiers"))]
)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Any store that heads may be kept in."""
    if request.param == "files":
        return FileStore(tmp_path / "store")
    if request.param == "breaker":
        return BreakerStore(FileStore(tmp_path / "store"), quick("durable", lambda: None))
    if request.param == "redis":
        return request.getfixturevalue("in_redis")
    if request.param == "s3":
        return request.getfixturevalue("in_s3")
    return TieredStore(request.getfixturevalue("in_redis"), request.getfixturevalue("in_s3"), breaker=quick)


@pytest.fixture(scope="session")
def s3_over() -> Callable[[RealS3], S3Store]:
    """Opens a store with short waits, on a server that tests kill."""
    return lambda server: s3_store(Bucket(server, "heads-mortal"), timeout_s=2.0)
