"""The network that settings name, and its stages in this process."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch

from headlift import formats
from headlift.errors import BackendUnavailableError, MissingWeightsError
from headlift.gateway.draw import Draw
from headlift.gateway.pipeline import Network
from headlift.gateway.reconstruct import LocalReconstructor
from headlift.model.cameras import orbit_camera
from headlift.model.refine import RefineSettings
from headlift.model.splat.rasterize import Backend
from headlift.model.types import Gaussians, Portrait
from headlift.render.pictures import Look, pack
from headlift.render.stage import Render
from headlift.settings import Settings
from headlift.sharpen.stage import Sharpen
from headlift.stages.preprocess import PictureLimits, Preprocess, build_preprocess
from headlift.stages.reconstruct import Reconstruct
from headlift.weights.loading import load_model, model_hash

_SHIPPED = "mini.safetensors"


@dataclass(frozen=True)
class LocalStages:
    """Every stage of one network, in this process."""

    preprocess: Preprocess
    reconstruct: LocalReconstructor
    draw: Draw
    sharpen: Sharpen
    network: Network
    device: torch.device

    def warm_up(self) -> None:
        """Run a round face through every stage on a GPU, which loads kernels and captures graphs the first time.

        On a CPU a first head costs what the next one costs (measured: docs/performance.md), so that nothing is run.
        """
        if self.device.type == "cpu":
            return
        side = self.network.portrait_size
        grid = torch.linspace(-1.0, 1.0, side)
        disc = (grid[:, None] ** 2 + grid[None] ** 2 < 0.5).float()[None]
        portrait = Portrait(
            disc.expand(3, -1, -1) * 0.5, disc, torch.eye(3, dtype=torch.float64)[:2], orbit_camera(0, size=side)
        )
        head = self.reconstruct.stage(portrait).gaussians
        views = self.draw.render(head, orbit_camera(0.0, size=512))
        rgb = self.sharpen(views.rgb) if self.sharpen.available else views.rgb
        pack(rgb[0], views.alpha[0], Look())


def load_stages(settings: Settings) -> LocalStages:
    """The stages of the network that ``settings`` name.

    Raises:
        WeightsError: The network cannot be loaded.
        BackendUnavailableError: The device does not exist here.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision(settings.precision)
    device = device_of(settings.device)
    loaded = load_model(*network_files(settings), device)
    model, digest = loaded.model, loaded.weights_hash
    config = model.config
    limits = PictureLimits(
        max_bytes=settings.picture_bytes_max,
        max_pixels=settings.picture_pixels_max,
        max_seconds=settings.decode_s_max,
    )
    size = settings.crop_size or max(config.portrait_size, 64)
    looking = build_preprocess(
        model,
        device,
        digest=digest,
        mode=settings.preprocess,
        size=size,
        limits=limits,
        matting_weights=settings.matting_weights,
    )
    refine = RefineSettings(size=settings.refine_size, final_size=settings.refine_final_size)
    sharpen = Sharpen(model, device, cuda_graphs=settings.cuda_graphs)
    reconstruct = LocalReconstructor(Reconstruct(model, refine, portrait_size=size), pack_head, digest)
    draw = Draw(Render(cast(Backend, settings.rasterizer), device), sharpen)
    # What is computed less precisely is other heads: they must not be taken for each other.
    precision = "" if settings.precision == "highest" else f" {settings.precision}"
    network = Network(digest, config.name, repr(refine) + precision, looking.fingerprint, size, sharpen.available)
    return LocalStages(looking.stage, reconstruct, draw, sharpen, network, device)


def pack_head(head: Gaussians) -> bytes:
    """A head in the wire codec."""
    return formats.write(head.to("cpu"), "wire")


def unpack_head(data: bytes) -> Gaussians:
    """Inverse of ``pack_head``. FormatError: these are other bytes."""
    return formats.read(data, "wire")


def network_files(settings: Settings) -> tuple[Path, Path | None]:
    """The checkpoint to use, and the file of its frozen backbone where one is named. Raises as ``weights_path``."""
    return weights_path(settings), settings.backbone_weights


def network_hash(settings: Settings) -> str:
    """``Network.weights_hash`` of the network that settings name, without loading it. Raises as ``load_stages``."""
    return model_hash(*network_files(settings))


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
