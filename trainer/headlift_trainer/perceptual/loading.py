"""From weights and a folder of networks to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.mini.headnet import load_headnet
from headlift.pretrained.dinov2 import load_dinov2
from headlift_trainer.metrics.lpips import load_lpips
from headlift_trainer.metrics.sam2 import load_sam2
from headlift_trainer.perceptual.combined import PerceptualLoss
from headlift_trainer.perceptual.maps import l1_loss, lpips_loss, sam_loss, ssim_loss
from headlift_trainer.perceptual.term import Framing, Memory, PictureTerm
from headlift_trainer.perceptual.tokens import dino_loss, headnet_loss
from headlift_trainer.recipes.config import LossWeights

# What each term looks for in the folder of networks, the first that is there. LPIPS is a folder or its own two files.
FILES: Mapping[str, tuple[str, ...]] = {
    "dino": ("dinov2_vits14_pretrain.pth", "dinov2_vits14.safetensors", "dinov2-small.safetensors"),
    "sam": ("sam2.1_hiera_small.pt", "sam2.1_hiera_small.safetensors"),
    "headnet": ("headnet.safetensors",),
}
DINO_LAYERS = (8, 11)  # Hugging Face's hidden_states


@dataclass(frozen=True)
class _Request:
    """Where networks lie, where they go, and how much memory a term may take."""

    networks: Path | None
    device: torch.device
    chunk: int | None = None
    memory: Memory = "keep"

    def file(self, term: str) -> Path:
        """The term's network; MissingWeightsError names what it may be called."""
        found = [self.networks / name for name in FILES[term] if self.networks and (self.networks / name).is_file()]
        if not found:
            raise MissingWeightsError(
                f"The loss term {term!r} needs a network; give a folder of networks with "
                f"{' or '.join(FILES[term])} in it."
            )
        return found[0]


def load_perceptual(
    weights: Mapping[str, float],
    networks: Path | None,
    device: torch.device,
    *,
    dino_layers: Sequence[int] = DINO_LAYERS,
    chunk: int | None = None,
    memory: Memory = "keep",
) -> PerceptualLoss:
    """The terms whose weight is over 0, with their networks from the files in a folder.

    Args:
        weights: By term: dino, sam, lpips, l1, ssim, headnet. `ABLATIONS` has named ones.
        networks: The folder; `FILES` has the names. None is enough for l1 and ssim.
        device: Where the networks go.
        dino_layers: That are compared, in Hugging Face's count.
        chunk, memory: See `PictureTerm`.

    Raises:
        InvalidInputError: A weight below 0, none over 0, or a term that there is not.
        MissingWeightsError: A file is not there; the message names it.
    """
    request = _Request(networks, device, chunk, memory)
    makers: Mapping[str, Callable[[], PictureTerm]] = {
        "dino": lambda: _dino(request, dino_layers),
        "sam": lambda: _sam(request),
        "lpips": lambda: _lpips(request),
        "headnet": lambda: _headnet(request),
        "l1": l1_loss,
        "ssim": ssim_loss,
    }
    if set(weights) - set(makers) or any(weight < 0 for weight in weights.values()):
        raise InvalidInputError(f"Loss weights are {dict(weights)}; 0 or more for any of {', '.join(makers)}.")
    return PerceptualLoss({name: (weight, makers[name]()) for name, weight in weights.items() if weight > 0})


def load_objective(weights: LossWeights, networks: Path | None, device: torch.device) -> PerceptualLoss:
    """A recipe's terms, with their networks from the files in a folder.

    Raises:
        MissingWeightsError: A file is not there; the message names it.
    """
    request = _Request(networks, device)
    makers: Mapping[str, Callable[[], PictureTerm]] = {
        "l1": l1_loss,
        "dino": lambda: _recipes_dino(request, weights),
        "sam": lambda: load_sam_term(networks, device),
        "lpips": lambda: load_lpips_term(networks, device),
    }
    wanted = {name: getattr(weights, name) for name in makers}
    return PerceptualLoss({name: (weight, makers[name]()) for name, weight in wanted.items() if weight > 0})


def load_sam_term(networks: Path | None, device: torch.device) -> PictureTerm:
    """The paper's SAM 2.1 term: the small network at 1024 pixels, a picture at a time."""
    return _sam(_Request(networks, device, chunk=1, memory="early"))


def load_lpips_term(networks: Path | None, device: torch.device) -> PictureTerm:
    """LPIPS with VGG-16, which its authors advise for training."""
    return _lpips(_Request(networks, device))


def _dino(request: _Request, layers: Sequence[int]) -> PictureTerm:
    network = load_dinov2("dinov2_vits14", request.file("dino"), layers=layers, convention="hf")
    return dino_loss(network.to(request.device), chunk=request.chunk, memory=request.memory)


def _recipes_dino(request: _Request, weights: LossWeights) -> PictureTerm:
    """Pictures are resampled to the recipe's side; class token and patches count alike."""
    network = load_dinov2(
        "dinov2_vits14", request.file("dino"), layers=weights.dino_layers, convention=weights.dino_convention
    )
    framing = Framing(weights.dino_side)
    return dino_loss(network.to(request.device), framing=framing, kinds=weights.dino_tokens, weighting="kinds")


def _sam(request: _Request) -> PictureTerm:
    network = load_sam2("sam2.1_hiera_small", request.file("sam")).to(request.device)
    return sam_loss(network, chunk=request.chunk, memory=request.memory)


def _lpips(request: _Request) -> PictureTerm:
    if request.networks is None:
        raise MissingWeightsError(
            "The loss term 'lpips' needs a network; give a folder of networks with vgg16-397923af.pth and vgg.pth."
        )
    return lpips_loss(
        load_lpips(request.networks, "vgg").to(request.device), chunk=request.chunk, memory=request.memory
    )


def _headnet(request: _Request) -> PictureTerm:
    network = load_headnet(request.file("headnet")).to(request.device)
    return headnet_loss(network, chunk=request.chunk, memory=request.memory)
