"""The network that settings name, in this process: its files, its device, its stages."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import cast

import torch

from headlift.backend.protocol import HeadRef, Network, PreprocessedPortrait, RenderedImages
from headlift.errors import BackendUnavailableError, MissingWeightsError
from headlift.media.pictures import RenderOptions, pack
from headlift.model.cameras import orbit_camera
from headlift.model.mini.model import MiniHead
from headlift.model.refine import RefineSettings
from headlift.model.sizes import HeadModel
from headlift.model.splat.rasterize import Backend as Rasterizer
from headlift.model.types import Cameras, Portrait
from headlift.pretrained.catalogue import FACE_MESH, SELFIE
from headlift.pretrained.installed import is_installed, load_selfie, models_folder
from headlift.settings import Settings
from headlift.stages.clock import Stopwatch
from headlift.stages.preprocess import PictureLimits, Preprocess, PreprocessOptions, build_preprocess
from headlift.stages.preprocess.detect.headnet import headnet_detector
from headlift.stages.reconstruct import Reconstruct
from headlift.stages.render import Render, render_pictures
from headlift.stages.rpc import LocalHandlers, local_handlers, quality_message, reconstruct_message
from headlift.stages.sharpen import Sharpen
from headlift.stages.stop_token import StopToken
from headlift.v1 import decode_service_pb2
from headlift.weights.loading import load_model, model_hash

_SHIPPED = "mini.safetensors"


class LocalBackend:
    """The stages of one network in this process; see ``Backend``.

    Attributes:
        stage_preprocess, stage_reconstruct, stage_render, stage_sharpen: The stages themselves.
        device: Where they compute.
    """

    create_workers, render_workers = 1, 2

    def __init__(
        self,
        preprocess: Preprocess,
        reconstruct: Reconstruct,
        render: Render,
        sharpen: Sharpen,
        network: Network,
        device: torch.device,
        *,
        memory_bytes: int,
        sharpens_renders: bool = True,
    ) -> None:
        """Hold stages.

        Args:
            preprocess: The stage.
            reconstruct: The stage.
            render: The stage.
            sharpen: The stage.
            network: What is known about the network behind them.
            device: Where they compute.
            memory_bytes: Bound on the heads that the render handler keeps by key.
            sharpens_renders: Whether the render handler sharpens the pictures that it packs.
        """
        self.stage_preprocess, self.stage_reconstruct = preprocess, reconstruct
        self.stage_render, self.stage_sharpen = render, sharpen
        self.device = device
        self.about = f"{network.config_name} ({network.weights_hash[:12]}) on {device}"
        self.handlers: LocalHandlers = local_handlers(
            preprocess,
            reconstruct,
            render,
            sharpen,
            weights_hash=network.weights_hash,
            memory_bytes=memory_bytes,
            sharpens_renders=sharpens_renders,
        )
        self._network = network

    def network(self) -> Network:
        """See Backend; it never changes."""
        return self._network

    def settled(self) -> bool:
        """See Backend."""
        return True

    def lost(self) -> bool:
        """See Backend."""
        return False

    def preprocess(self, picture: bytes, options: PreprocessOptions, token: StopToken) -> PreprocessedPortrait:
        """See Backend."""
        result = self.stage_preprocess(picture, options)
        return PreprocessedPortrait(result.portrait, quality_message(result))

    def reconstruct(self, portrait: Portrait, refine_steps: int, token: StopToken) -> decode_service_pb2.DecodeResponse:
        """See Backend."""
        weights_hash = self._network.weights_hash
        return reconstruct_message(self.stage_reconstruct, weights_hash, None, portrait, refine_steps, token)

    def fetch(self, head: HeadRef) -> None:
        """See Backend."""
        head.unpacked()

    def render(self, head: HeadRef, cameras: Cameras, options: RenderOptions, token: StopToken) -> RenderedImages:
        """See Backend."""
        watch = Stopwatch()
        pictures = render_pictures(
            self.stage_render, self.stage_sharpen, head.unpacked(), cameras, options, token, watch
        )
        return RenderedImages(pictures, watch.timings)

    def warm_up(self) -> None:
        """Run a round face through every stage on a GPU, which loads kernels and captures graphs the first time.

        On a CPU a first head costs what the next one costs (measured: docs/performance.md), so that nothing is run.
        """
        if self.device.type == "cpu":
            return
        side = self._network.portrait_size
        grid = torch.linspace(-1.0, 1.0, side)
        disc = (grid[:, None] ** 2 + grid[None] ** 2 < 0.5).float()[None]
        portrait = Portrait(
            disc.expand(3, -1, -1) * 0.5, disc, torch.eye(3, dtype=torch.float64)[:2], orbit_camera(0, size=side)
        )
        head = self.stage_reconstruct(portrait).gaussians
        views = self.stage_render(head, orbit_camera(0.0, size=512))
        rgb = self.stage_sharpen(views.rgb) if self.stage_sharpen.available else views.rgb
        pack(rgb[0], views.alpha[0], RenderOptions())

    def close(self) -> None:
        """See Backend; there is nothing to let go of."""


def local_backend(settings: Settings, *, sharpens_renders: bool = True) -> LocalBackend:
    """The network that ``settings`` name, in this process.

    Args:
        settings: Which network, where, how.
        sharpens_renders: Whether the render handler sharpens the pictures that it packs.

    Raises:
        WeightsError: The network cannot be loaded.
        BackendUnavailableError: The device does not exist here.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision(settings.precision)
    device = device_of(settings.device)
    models = models_of(settings)
    loaded = load_model(*network_files(settings), device, models)
    model, digest = loaded.model, loaded.weights_hash
    config = model.config
    limits = PictureLimits(
        max_bytes=settings.picture_bytes_max,
        max_pixels=settings.picture_pixels_max,
        max_seconds=settings.decode_s_max,
    )
    size = settings.crop_size or max(config.portrait_size, 64)
    built = build_preprocess(
        model,
        device,
        digest=digest,
        mode=settings.preprocess,
        size=size,
        limits=limits,
        matting_weights=settings.matting_weights,
        segment=load_selfie(models, device) if models is not None and is_installed(SELFIE, models) else None,
        segment_digest=SELFIE.sha256,
        models=_consulted(model, models, settings),
    )
    refine = RefineSettings(size=settings.refine_size, final_size=settings.refine_final_size)
    sharpen = Sharpen(model, device, cuda_graphs=settings.cuda_graphs)
    # What is computed less precisely is other heads: they must not be taken for each other.
    precision = "" if settings.precision == "highest" else f" {settings.precision}"
    return LocalBackend(
        built.stage,
        Reconstruct(model, refine, portrait_size=size),
        Render(cast(Rasterizer, settings.rasterizer), device),
        sharpen,
        Network(digest, config.name, repr(refine) + precision, built.fingerprint, size, sharpen.available),
        device,
        memory_bytes=settings.memory_heads_bytes,
        sharpens_renders=sharpens_renders,
    )


def network_files(settings: Settings) -> tuple[Path, Path | None]:
    """The checkpoint to use, and the file of its frozen backbone where one is named. Raises as ``weights_path``."""
    return weights_path(settings), settings.backbone_weights


def network_hash(settings: Settings) -> str:
    """``Network.weights_hash`` of the network that settings name, without loading it. Raises as ``local_backend``."""
    return model_hash(*network_files(settings), models_of(settings))


def models_of(settings: Settings) -> Path | None:
    """The folder of pretrained models that heads are made with; None where the settings want none."""
    return None if settings.models == "off" else models_folder(settings.models_dir)


def _consulted(model: HeadModel, models: Path | None, settings: Settings) -> tuple[str, ...]:
    """Names of the pretrained models that portraits are shown to."""
    mesh = isinstance(model, MiniHead) and model.mesh is not None
    segments = models is not None and is_installed(SELFIE, models) and headnet_detector(model) is not None
    segments = segments and settings.preprocess != "classical" and settings.matting_weights is None
    return (*([FACE_MESH.name] if mesh else []), *([SELFIE.name] if segments else []))


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


def device_of(name: str) -> torch.device:
    """The device of this name. BackendUnavailableError: it is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackendUnavailableError(f"{name!r} is no device; use auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise BackendUnavailableError(f"The device {name!r} is not on this machine; use auto or cpu.")
    return device
