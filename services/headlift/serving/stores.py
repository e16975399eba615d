"""Opens the stores that Settings name: files or S3, with Redis in front where there is one; and keeps house in them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from minio.sse import Sse, SseKMS, SseS3

from headlift.errors import InvalidInputError, StoreError
from headlift.gateway.renders import RenderCache
from headlift.gateway.workers import Workers
from headlift.settings import Settings
from headlift.store import redis, s3_client
from headlift.store.blobs import BlobStore, Seen, unseen
from headlift.store.breaker import Breaker, Changed
from headlift.store.files import FileStore
from headlift.store.guarded import GuardedStore
from headlift.store.heads import HeadStore
from headlift.store.leases import GuardedLeases, Leases, RedisLeases
from headlift.store.retention import Keep, Retention, Sweeper, read_retention
from headlift.store.s3 import S3Store
from headlift.store.sealed import SealedStore
from headlift.store.tiered import TieredStore
from headlift.telemetry.metrics import metrics

_log = logging.getLogger(__name__)
_S3_FAILURES = 3  # in a row before S3 is skipped: its client has already tried each request twice
_SWEEP = "sweep"
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Stores:
    """What is open.

    Attributes:
        blobs: Where everything is kept.
        hot: The hot tier alone, for what is not worth more; None where there is none.
        leases: Decide between processes; None where there is but one.
        make_good: Brings the hot tier up to date with deletions that it missed.
        close: Lets go of connections and ends threads.
    """

    blobs: BlobStore
    hot: BlobStore | None = None
    leases: Leases | None = None
    make_good: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None


def count_seen(tier: str, kind: str, outcome: str, size_bytes: int) -> None:
    """Count a read or a write in the metrics of this process."""
    counts = metrics()
    if outcome == "written":
        counts.blob_written_bytes.inc(size_bytes, tier=tier)
        return
    counts.cache_reads.inc(tier=tier, stage=kind, outcome=outcome)
    if outcome == "hit":
        counts.blob_read_bytes.inc(size_bytes, tier=tier)


def note_breaker(tier: str, is_open: bool) -> None:
    """Show in the metrics of this process whether a tier is skipped."""
    metrics().breaker_open.set(float(is_open), tier=tier)


def open_stores(settings: Settings, *, seen: Seen = count_seen, changed: Changed = note_breaker) -> Stores:
    """Open what ``settings`` name. A Redis that does not answer is waited for in the background.

    Args:
        settings: Which stores, and their limits.
        seen: Hears of every read and write: tier, kind of blob, outcome, bytes.
        changed: Hears of every breaker that opens (True) or closes: tier, and which.

    Raises:
        InvalidInputError: A setting is missing or contradicts another.
        StoreError: The durable store cannot be used.
    """
    single = not settings.redis_url
    durable, close = _open_durable(settings, seen if single else unseen, changed)
    if single:
        return Stores(durable, close=close)
    client = redis.connect(settings.redis_url, settings.redis_timeout_ms / 1000)
    limits = redis.HotLimits(settings.hot_bytes, settings.hot_tenant_bytes, settings.hot_hours * 3600)
    hot = redis.RedisStore(client, limits)
    tiers = TieredStore(hot, durable, breaker=partial(Breaker, changed=changed), seen=seen)
    leases = GuardedLeases(RedisLeases(client), tiers.breaker)

    def close_all() -> None:
        tiers.close()
        close()

    return Stores(tiers, GuardedStore(hot, tiers.breaker, seen=seen), leases, tiers.make_good, close_all)


def open_blobs(settings: Settings) -> BlobStore:
    """The store that ``settings`` name; see ``open_stores``, which also hands out what goes with it."""
    return open_stores(settings).blobs


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
    default = Keep(settings.derived_days, settings.heads_days)
    tenants = read_retention(settings.retention_file, default) if settings.retention_file else {}
    return Retention(default, tenants, settings.request_id_hours * 3600)


class Housekeeping:
    """A thread that sweeps now and then; of several processes one at a time."""

    def __init__(self, stores: Stores, sealed: SealedStore, heads: HeadStore, settings: Settings) -> None:
        self._stores = stores
        self._heads = heads
        self._sweeper = Sweeper(sealed, heads, open_retention(settings))
        self._every_s = settings.sweep_minutes * 60
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Remove what a crash left behind; what is too old goes for the first time after one interval."""
        self._thread.start()

    def close(self) -> None:
        """End; a round that is under way may take a few seconds more, and is then left to itself."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def keep_house(self) -> int:
        """One round; how many things were removed. Does nothing while another process is at it."""
        leases = self._stores.leases
        lease = leases.take(_SWEEP) if leases else None
        if leases and lease is None:
            return 0
        try:
            self._stores.make_good()
            return self._sweeper.sweep()
        finally:
            if leases and lease:
                leases.give_back(lease)

    def _run(self) -> None:
        self._try(self._heads.sweep)
        while not self._ended.wait(self._every_s):
            self._try(self.keep_house)

    def _try(self, sweep: Callable[[], int]) -> None:
        try:
            sweep()
        except StoreError as error:
            _log.warning("the store was not swept: %s", error.message)


def _open_durable(settings: Settings, seen: Seen, changed: Changed) -> tuple[BlobStore, Callable[[], None]]:
    if not settings.s3_bucket:
        return FileStore(settings.data_dir.expanduser(), seen=seen), lambda: None
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
    breaker = Breaker("durable", store.probe, failures_max=_S3_FAILURES, changed=changed)
    return GuardedStore(store, breaker, seen=seen), breaker.close


def _encryption(settings: Settings) -> Sse | None:
    if settings.s3_encryption == "sse-kms":
        if not settings.s3_kms_key or not settings.s3_endpoint.startswith("https://"):
            raise InvalidInputError("HEADLIFT_S3_ENCRYPTION=sse-kms needs HEADLIFT_S3_KMS_KEY and an https:// server.")
        return SseKMS(settings.s3_kms_key, {})
    return SseS3() if settings.s3_encryption == "sse-s3" else None
