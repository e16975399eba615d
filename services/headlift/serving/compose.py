"""From Settings to a service that can answer: every collaborator is made and joined here, and nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from headlift.errors import CorruptBlobError
from headlift.gateway.batch.runner import Batches, BatchLimits
from headlift.gateway.creation import Creator
from headlift.gateway.draw import Drawer
from headlift.gateway.edits.service import EditServicer
from headlift.gateway.paging import PageTokens
from headlift.gateway.pipeline import Network, StagedPipeline, Stages
from headlift.gateway.portraits import Look, PortraitCache, looking
from headlift.gateway.reconstruct import Reconstructor
from headlift.gateway.service import HeadServicer
from headlift.gateway.workers import Workers
from headlift.serving.answers import StageAnswers, local_answers, stage_services
from headlift.serving.edge.services import ServedService, batch_services, edit_service
from headlift.serving.editing import compose_edits
from headlift.serving.network import load_stages, unpack_head
from headlift.serving.stores import Stores, SweepThread, open_renders, open_stores
from headlift.serving.telemetry import set_build_info
from headlift.settings import Settings
from headlift.store.blobs import BlobStore
from headlift.store.heads import HeadStore
from headlift.store.operations import OperationStore
from headlift.store.requests import RequestLog
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache

__all__ = ["Computing", "Service", "compose", "compute_here"]

_STORING_THREADS, _STORING_QUEUE = 8, 4096
_CREATE_WORKERS, _RENDER_WORKERS = 1, 2  # in one process
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


@dataclass(frozen=True)
class Computing:
    """What a runtime brings: stages that block, here or elsewhere.

    Attributes:
        look: Preprocesses.
        reconstruct: Makes heads.
        drawer: Takes pictures.
        answers: The same stages, message to message, for the stage services.
        network: What is known about the network behind them.
        about: One phrase: which network, where.
        create_workers: Heads that can be made at the same time.
        render_workers: Pictures that can be taken at the same time.
        warm_up: Runs every stage once.
        close: Lets go of everything.
        current: What is known about the network as things stand, where weights may change; else ``network``.
        settled: Whether all that computes agrees with it. What is computed meanwhile is not remembered.
        lost: Whether this process is cut off from the stages for good, so that only another process could reach them.
    """

    look: Look
    reconstruct: Reconstructor
    drawer: Drawer
    answers: StageAnswers
    network: Network
    about: str
    create_workers: int
    render_workers: int
    warm_up: Callable[[], None]
    close: Callable[[], None]
    current: Callable[[], Network] | None = None
    settled: Callable[[], bool] = lambda: True
    lost: Callable[[], bool] = lambda: False


def compose(settings: Settings, blobs: BlobStore | None = None, computing: Computing | None = None) -> Service:
    """Join everything.

    Args:
        settings: As a whole.
        blobs: Replaces the stores that ``settings`` name.
        computing: Replaces the network in this process that ``settings`` name; the service closes it.

    Raises:
        WeightsError: The network cannot be loaded.
        BackendUnavailableError: The device does not exist here.
        StoreError: The store cannot be opened.
    """
    runtime = "embedded" if computing is None else "ray"
    computing = computing or compute_here(settings)
    set_build_info(computing.network, runtime)
    stores = open_stores(settings) if blobs is None else Stores(blobs)
    store = SealedStore(stores.blobs)
    cache = StageCache(store, enabled=settings.cache_stages, leases=stores.leases, keeps=computing.settled)
    network = computing.current or (lambda: computing.network)
    portraits = PortraitCache(computing.look, cache, lambda: network().portraits)
    stages = Stages(portraits, computing.reconstruct, computing.drawer, network)
    storing = Workers("storing", _STORING_THREADS, _STORING_QUEUE)
    creating = Workers("creating", settings.create_workers or computing.create_workers, settings.create_queue)
    rendering = Workers("rendering", settings.render_workers or computing.render_workers, settings.render_queue)
    pipeline = StagedPipeline(stages, cache, creating, rendering, storing)
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
        fingerprint=lambda: f"{network().weights_hash} {settings.rasterizer}",
        keeps=computing.settled,
    )
    tokens = PageTokens(_secret(store))
    servicer = HeadServicer(pipeline, creator, heads, tokens, storing, renders)
    # In this process in every runtime: it is small, and asked by one person at a time.
    editing = Workers("editing", _EDIT_WORKERS, settings.create_queue)
    edits = compose_edits(settings, heads, cache, stages, creator, editing, storing)
    further = stage_services(computing.answers, creating, rendering) if settings.stage_services else ()
    batch_limits = BatchLimits(settings.batch_in_flight, settings.batch_operations, settings.picture_bytes_max)
    batches = Batches(creator, OperationStore(store), storing, batch_limits, stores.leases)
    sweeper = SweepThread(stores, store, heads, settings)
    sweeper.start()

    def close() -> None:
        sweeper.close()
        editing.close()
        pipeline.close()
        storing.close()
        stores.close()
        computing.close()

    further = (edit_service(edits), *batch_services(batches, tokens), *further)
    return Service(servicer, edits, pipeline, store, computing.about, computing.warm_up, close, further, batches)


def compute_here(settings: Settings) -> Computing:
    """The network that ``settings`` name, in this process. Raises as ``load_stages``."""
    stages = load_stages(settings)
    network = stages.network
    return Computing(
        look=looking(stages.preprocess),
        reconstruct=stages.reconstruct,
        drawer=stages.draw,
        answers=local_answers(stages, memory_bytes=settings.memory_heads_bytes),
        network=network,
        about=f"{network.config_name} ({network.weights_hash[:12]}) on {stages.device}",
        create_workers=_CREATE_WORKERS,
        render_workers=_RENDER_WORKERS,
        warm_up=stages.warm_up,
        close=lambda: None,
    )


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
