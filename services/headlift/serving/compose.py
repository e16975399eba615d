"""From Settings to a service that can answer: every collaborator is made and joined here, and nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from headlift import formats
from headlift.decode.stage import Decode
from headlift.encode.stage import Encode
from headlift.errors import BackendUnavailableError, CorruptBlobError, MissingWeightsError
from headlift.gateway.creation import Creator
from headlift.gateway.paging import PageTokens
from headlift.gateway.pipeline import LocalPipeline, Stages
from headlift.gateway.portraits import PortraitCache
from headlift.gateway.service import HeadServicer
from headlift.gateway.workers import Workers
from headlift.model.cameras import orbit_camera
from headlift.model.checkpoint import load_checkpoint, weights_hash
from headlift.model.perchead import PercHead
from headlift.model.splat.rasterize import Backend
from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.preprocess import PictureLimits, Preprocess
from headlift.refine import Neighborhood, RefineSettings
from headlift.render.pictures import Look, pack
from headlift.render.stage import Render
from headlift.settings import Settings
from headlift.sharpen.stage import Sharpen
from headlift.store.blobs import BlobStore
from headlift.store.files import FileStore
from headlift.store.heads import HeadStore
from headlift.store.requests import RequestLog
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache

_STORING_THREADS, _STORING_QUEUE = 8, 4096
_SECRET_KEY, _SECRET_CODEC = "system/page-secret", "secret"
_SHIPPED = "mini.safetensors"


@dataclass(frozen=True)
class Service:
    """A composed service.

    Attributes:
        servicer: Answers the RPCs.
        pipeline: Computes.
        store: Keeps.
        about: One phrase: which network, where.
        warm_up: Runs every stage once, so that the first caller does not pay for it.
        close: Waits for running work and ends the threads.
    """

    servicer: HeadServicer
    pipeline: LocalPipeline
    store: SealedStore
    about: str
    warm_up: Callable[[], None]
    close: Callable[[], None]


class EncoderCamera:
    """A network's own estimate of the input camera, as preprocessing asks for it."""

    def __init__(self, model: PercHead, device: torch.device) -> None:
        self._model = model
        self._device = device

    def estimate(self, image: Tensor, alpha: Tensor) -> Cameras:
        """See preprocess.CameraEstimator."""
        with torch.no_grad():
            camera: Cameras | None = self._model.encode(
                image[None].to(self._device), alpha[None].to(self._device)
            ).camera
        if camera is None:
            raise BackendUnavailableError(f"The network {self._model.config.name!r} does not estimate cameras.")
        side = image.shape[-1]
        return camera.to("cpu").resized(side, side)


def compose(settings: Settings, blobs: BlobStore | None = None) -> Service:
    """Load the network and join everything; ``blobs`` replaces the file store.

    Raises:
        WeightsError: The network cannot be loaded.
        BackendUnavailableError: The device does not exist here.
        StoreError: The store cannot be opened.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = _device(settings.device)
    store = SealedStore(blobs or FileStore(settings.data_dir.expanduser()))
    cache = StageCache(store, enabled=settings.cache_stages)
    stages = load_stages(settings, cache, device)
    storing = Workers("storing", _STORING_THREADS, _STORING_QUEUE)
    pipeline = LocalPipeline(
        stages,
        cache,
        Workers("creating", settings.create_workers, settings.create_queue),
        Workers("rendering", settings.render_workers, settings.render_queue),
    )
    heads = HeadStore(store, unpack=_unpack, memory_bytes=settings.memory_heads_bytes)
    heads.sweep()
    creator = Creator(
        pipeline,
        heads,
        RequestLog(store, keep_s=settings.request_id_hours * 3600),
        cache,
        storing,
        refine_steps_default=settings.refine_steps,
        picture_bytes_max=settings.picture_bytes_max,
    )
    servicer = HeadServicer(pipeline, creator, heads, PageTokens(_secret(store)), storing)

    def close() -> None:
        pipeline.close()
        storing.close()

    about = f"{stages.config_name} ({stages.weights_hash[:12]}) on {device}"
    return Service(servicer, pipeline, store, about, lambda: warm_up(stages), close)


def load_stages(settings: Settings, cache: StageCache, device: torch.device) -> Stages:
    """The stages of the network that ``settings`` name."""
    path = weights_path(settings)
    model, _ = load_checkpoint(path)
    model = model.to(device).eval().requires_grad_(False)
    digest = weights_hash(path)
    config = model.config
    limits = PictureLimits(
        max_bytes=settings.picture_bytes_max,
        max_pixels=settings.picture_pixels_max,
        max_seconds=settings.decode_s_max,
    )
    estimator = EncoderCamera(model, device) if config.encoder.estimates_camera else None
    size = settings.crop_size or max(config.portrait_size, 64)
    preprocess = Preprocess(camera_estimator=estimator, size=size, limits=limits)
    template = model.template
    return Stages(
        portraits=PortraitCache(preprocess, cache, f"classical-1 size={size} camera={digest if estimator else 'none'}"),
        encode=Encode(model, device),
        decode=Decode(model),
        refine=RefineSettings(size=settings.refine_size, final_size=settings.refine_final_size),
        topology=Neighborhood(template.neighbors, template.mirror),
        render=Render(cast(Backend, settings.rasterizer), device),
        sharpen=Sharpen(model, device),
        pack_head=lambda head: formats.write(head.to("cpu"), "wire"),
        weights_hash=digest,
        config_name=config.name,
    )


def weights_path(settings: Settings) -> Path:
    """The checkpoint to use.

    Raises:
        MissingWeightsError: It is not there.
    """
    if settings.weights is not None:
        if not settings.weights.is_file():
            raise MissingWeightsError(
                f"There is no checkpoint {settings.weights}; correct HEADLIFT_WEIGHTS or --weights."
            )
        return settings.weights
    shipped = Path(str(resources.files("headlift") / "weights" / _SHIPPED))
    if not shipped.is_file():
        raise MissingWeightsError(
            f"The shipped weights {_SHIPPED} are not in this installation; "
            "name a checkpoint with --weights or HEADLIFT_WEIGHTS."
        )
    return shipped


def warm_up(stages: Stages) -> None:
    """Run a round face through every stage: first calls load kernels and grow buffers."""
    side = stages.portraits.size
    grid = torch.linspace(-1.0, 1.0, side)
    disc = (grid[:, None] ** 2 + grid[None] ** 2 < 0.5).float()[None]
    portrait = Portrait(
        disc.expand(3, -1, -1) * 0.5, disc, torch.eye(3, dtype=torch.float64)[:2], orbit_camera(0, size=side)
    )
    head = stages.decode(stages.encode(portrait))
    views = stages.render(head, orbit_camera(0.0, size=512))
    rgb = stages.sharpen(views.rgb) if stages.sharpen.available else views.rgb
    pack(rgb[0], views.alpha[0], Look())


def _unpack(data: bytes) -> Gaussians:
    return formats.read(data, "wire")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackendUnavailableError(f"{name!r} is no device; use auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise BackendUnavailableError(f"The device {name!r} is not on this machine; use auto or cpu.")
    return device


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
