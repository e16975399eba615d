"""Opens the stores that Settings name (files or S3, with Redis in front where there is one), and sweeps them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from headlift.backend.workers import Workers
from headlift.errors import InvalidInputError, StoreError
from headlift.gateway.renders import RenderCache
from headlift.settings import Settings
from headlift.store.blobs import BlobStore, OnAccess, ignore_access
from headlift.store.breaker import Breaker, BreakerStore, OnChange
from headlift.store.files import FileStore
from headlift.store.heads import HeadStore
from headlift.store.retention import Retention, RetentionRule, Sweeper, read_retention
from headlift.store.sealed import SealedStore
from headlift.store.tiered import TieredStore
from headlift.telemetry.metrics import metrics

if TYPE_CHECKING:  # the drivers of Redis and S3 take half a second to import, and few servers use them
    from minio.sse import Sse

    from headlift.store.leases import Leases

_log = logging.getLogger(__name__)
_S3_FAILURES = 3  # in a row before S3 is skipped: its client has already tried each request twice
_SWEEP = "sweep"
_JOIN_S = 5.0


@dataclass(frozen=True)
class Stores:
    """What is open.

    Attributes:
        blobs: Where everything is kept.
        hot: The hot tier alone, for what is not worth more; None where there is none.
        leases: Decide between processes; None without Redis.
        replay_tombstones: Deletes from the hot tier what was deleted while it was out.
        close: Closes connections and ends threads.
    """

    blobs: BlobStore
    hot: BlobStore | None = None
    leases: Leases | None = None
    replay_tombstones: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None


def count_access(tier: str, kind: str, outcome: str, size_bytes: int) -> None:
    """Count a read or a write in this process's metrics."""
    counts = metrics()
    if outcome == "written":
        counts.blob_written_bytes.inc(size_bytes, tier=tier)
        return
    counts.cache_reads.inc(tier=tier, stage=kind, outcome=outcome)
    if outcome == "hit":
        counts.blob_read_bytes.inc(size_bytes, tier=tier)


def set_breaker_gauge(tier: str, is_open: bool) -> None:
    """Show in the metrics of this process whether a tier is skipped."""
    metrics().breaker_open.set(float(is_open), tier=tier)


def open_stores(
    settings: Settings, *, on_access: OnAccess = count_access, on_change: OnChange = set_breaker_gauge
) -> Stores:
    """Open what ``settings`` name. A Redis that does not answer is waited for in the background.

    Args:
        settings: Which stores, and their limits.
        on_access: Called on every read and write: tier, kind of blob, outcome, bytes.
        on_change: Called when a breaker opens (True) or closes: tier, and which.

    Raises:
        InvalidInputError: A setting is missing or contradicts another.
        StoreError: The durable store cannot be used.
    """
    single = not settings.redis_url
    durable, close = _open_durable(settings, on_access if single else ignore_access, on_change)
    if single:
        return Stores(durable, close=close)
    from headlift.store import redis
    from headlift.store.leases import Leases

    client = redis.connect(settings.redis_url, settings.redis_timeout_ms / 1000)
    limits = redis.HotLimits(settings.hot_bytes, settings.hot_tenant_bytes, settings.hot_hours * 3600)
    hot = redis.RedisStore(client, limits)
    tiers = TieredStore(hot, durable, breaker=partial(Breaker, on_change=on_change), on_access=on_access)
    leases = Leases(client, tiers.breaker)

    def close_all() -> None:
        tiers.close()
        close()

    alone = BreakerStore(hot, tiers.breaker, on_access=on_access)
    return Stores(tiers, alone, leases, tiers.replay_tombstones, close_all)


def open_renders(
    settings: Settings,
    stores: Stores,
    heads: HeadStore,
    storing: Workers,
    *,
    fingerprint: Callable[[], str],
    keeps: Callable[[], bool],
) -> RenderCache | None:
    """The cache of rendered pictures, where there is a hot tier; files and S3 would cost more than rendering anew.

    ``fingerprint`` names what pictures depend on besides head, cameras and look: weights and rasterizer. For ``keeps``
    see RenderCache.
    """
    if stores.hot is None or not settings.cache_renders:
        return None
    return RenderCache(
        SealedStore(stores.hot),
        heads,
        storing,
        fingerprint=fingerprint,
        keeps=keeps,
        bytes_max=settings.cache_renders_bytes,
        leases=stores.leases,
    )


def open_retention(settings: Settings) -> Retention:
    """How long things are kept.

    Raises:
        InvalidInputError: The file with the tenants' own rules cannot be read.
    """
    default = RetentionRule(settings.derived_days, settings.heads_days)
    tenants = read_retention(settings.retention_file, default) if settings.retention_file else {}
    return Retention(default, tenants, settings.request_id_hours * 3600)


class SweepThread:
    """Sweeps the stores every ``sweep_minutes``; of several processes one at a time."""

    def __init__(self, stores: Stores, sealed: SealedStore, heads: HeadStore, settings: Settings) -> None:
        self._stores = stores
        self._heads = heads
        self._sweeper = Sweeper(sealed, heads, open_retention(settings))
        self._every_s = settings.sweep_minutes * 60
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        """Remove what a crash left behind; what is too old goes for the first time after one interval."""
        self._thread.start()

    def close(self) -> None:
        """Stop; a sweep that is under way gets a few seconds to end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def sweep_once(self) -> int:
        """Sweep now; how many heads and blobs were removed. Does nothing while another process sweeps."""
        leases = self._stores.leases
        lease = leases.acquire(_SWEEP) if leases else None
        if leases and lease is None:
            return 0
        try:
            self._stores.replay_tombstones()
            return self._sweeper.sweep()
        finally:
            if leases and lease:
                leases.release(lease)

    def _run(self) -> None:
        self._try(self._heads.sweep)
        while not self._ended.wait(self._every_s):
            self._try(self.sweep_once)

    def _try(self, sweep: Callable[[], int]) -> None:
        try:
            sweep()
        except StoreError as error:
            _log.warning("the store was not swept: %s", error.message)


def _open_durable(settings: Settings, on_access: OnAccess, on_change: OnChange) -> tuple[BlobStore, Callable[[], None]]:
    if not settings.s3_bucket:
        return FileStore(settings.data_dir.expanduser(), on_access=on_access), lambda: None
    from headlift.store import s3_client
    from headlift.store.s3 import S3Store

    client = s3_client.connect(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        settings.s3_region,
        settings.s3_timeout_s,
    )
    store = S3Store(client, settings.s3_bucket, part_bytes=settings.s3_part_mib << 20, encryption=_encryption(settings))
    # The bucket's own rule must not be shorter than any tenant's.
    rules = [open_retention(settings).default, *open_retention(settings).tenants.values()]
    days = [rule.derived_days for rule in rules]
    store.set_lifecycle(max(days) if all(days) else 0.0)
    breaker = Breaker("durable", store.probe, failures_max=_S3_FAILURES, on_change=on_change)
    return BreakerStore(store, breaker, on_access=on_access), breaker.close


def _encryption(settings: Settings) -> Sse | None:
    from minio.sse import SseKMS, SseS3

    if settings.s3_encryption == "sse-kms":
        if not settings.s3_kms_key or not settings.s3_endpoint.startswith("https://"):
            raise InvalidInputError("HEADLIFT_S3_ENCRYPTION=sse-kms needs HEADLIFT_S3_KMS_KEY and an https:// server.")
        return SseKMS(settings.s3_kms_key, {})
    return SseS3() if settings.s3_encryption == "sse-s3" else None
