"""From Settings to a service that can answer: every collaborator is made and joined here, and nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from headlift.backend.local import local_backend
from headlift.backend.protocol import Backend
from headlift.backend.workers import Workers
from headlift.errors import CorruptBlobError
from headlift.gateway.baking import Baking
from headlift.gateway.batch.runner import Batches, BatchLimits
from headlift.gateway.creation import Creator
from headlift.gateway.edits.service import EditServicer
from headlift.gateway.paging import PageTokens
from headlift.gateway.pipeline import StagedPipeline
from headlift.gateway.portraits import PortraitCache
from headlift.gateway.service import HeadServicer
from headlift.serving.edge.services import ServedService, batch_services, edit_service, stage_services
from headlift.serving.editing import compose_edits
from headlift.serving.stores import Stores, SweepThread, open_renders, open_stores
from headlift.serving.telemetry import set_build_info
from headlift.settings import Settings
from headlift.stages.rpc import unpack_head
from headlift.store.blobs import BlobStore
from headlift.store.heads import HeadStore
from headlift.store.operations import OperationStore
from headlift.store.requests import RequestLog
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache

_STORING_THREADS, _STORING_QUEUE = 8, 4096
_EDIT_WORKERS = 1
_SECRET_KEY, _SECRET_CODEC = "system/page-secret", "secret"


@dataclass(frozen=True)
class Service:
    """A composed service.

    Attributes:
        servicer: Answers the RPCs of HeadService.
        edits: Answers those of EditService; it is among ``further``, too.
        pipeline: Computes.
        store: Keeps.
        about: One phrase: which network, where.
        warm_up: Runs every stage once, so that the first caller does not pay for it.
        close: Waits for running work and ends the threads.
        further: gRPC services besides HeadService.
        batches: Long-running operations; begin and end with the server's event loop.
    """

    servicer: HeadServicer
    edits: EditServicer
    pipeline: StagedPipeline
    store: SealedStore
    about: str
    warm_up: Callable[[], None]
    close: Callable[[], None]
    further: tuple[ServedService, ...] = ()
    batches: Batches | None = None


def compose(settings: Settings, blobs: BlobStore | None = None, backend: Backend | None = None) -> Service:
    """Join everything.

    Args:
        settings: As a whole.
        blobs: Replaces the stores that ``settings`` name.
        backend: Replaces the network in this process that ``settings`` name; the service closes it.

    Raises:
        WeightsError: The network cannot be loaded.
        BackendUnavailableError: The device does not exist here.
        StoreError: The store cannot be opened.
    """
    runtime = "embedded" if backend is None else "ray"
    backend = backend or local_backend(settings)
    set_build_info(backend.network(), runtime)
    stores = open_stores(settings) if blobs is None else Stores(blobs)
    store = SealedStore(stores.blobs)
    cache = StageCache(store, enabled=settings.cache_stages, leases=stores.leases, keeps=backend.settled)
    portraits = PortraitCache(backend, cache)
    storing = Workers("storing", _STORING_THREADS, _STORING_QUEUE)
    creating = Workers("creating", settings.create_workers or backend.create_workers, settings.create_queue)
    rendering = Workers("rendering", settings.render_workers or backend.render_workers, settings.render_queue)
    pipeline = StagedPipeline(backend, portraits, cache, creating, rendering, storing)
    heads = HeadStore(store, unpack=unpack_head, memory_bytes=settings.memory_heads_bytes)
    creator = Creator(
        pipeline,
        heads,
        RequestLog(store, keep_s=settings.request_id_hours * 3600),
        cache,
        storing,
        refine_steps_default=settings.refine_steps,
        picture_bytes_max=settings.picture_bytes_max,
    )
    renders = open_renders(
        settings,
        stores,
        heads,
        storing,
        fingerprint=lambda: f"{backend.network().weights_hash} {settings.rasterizer}",
        keeps=backend.settled,
    )
    tokens = PageTokens(_secret(store))
    baking = Baking(pipeline)
    servicer = HeadServicer(pipeline, creator, heads, tokens, storing, renders, baking=baking)
    # In this process in every runtime: it is small, and asked by one person at a time.
    editing = Workers("editing", _EDIT_WORKERS, settings.create_queue)
    edits = compose_edits(settings, heads, cache, backend, portraits, creator, editing, storing)
    further = stage_services(backend.handlers, creating, rendering) if settings.stage_services else ()
    batch_limits = BatchLimits(settings.batch_in_flight, settings.batch_operations, settings.picture_bytes_max)
    batches = Batches(creator, OperationStore(store), storing, batch_limits, stores.leases)
    sweeper = SweepThread(stores, store, heads, settings)
    sweeper.start()

    def close() -> None:
        sweeper.close()
        editing.close()
        baking.close()
        pipeline.close()
        storing.close()
        stores.close()
        backend.close()

    further = (edit_service(edits), *batch_services(batches, tokens), *further)
    return Service(servicer, edits, pipeline, store, backend.about, backend.warm_up, close, further, batches)


def _secret(store: SealedStore) -> bytes:
    """The key of page tokens; made once, so that tokens survive a restart."""
    try:
        secret = store.get(_SECRET_KEY, _SECRET_CODEC)
    except CorruptBlobError:
        secret = None
    if secret is None:
        secret = secrets.token_bytes(32)
        store.put(_SECRET_KEY, secret, _SECRET_CODEC)
    return secret
