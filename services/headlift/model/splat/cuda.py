"""gsplat's CUDA rasteriser as a backend. gsplat is imported on first use: without a GPU it is only weight."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from headlift.errors import BackendUnavailableError, InvalidCameraError

_WAY_OUT = "pip install 'headlift[cuda]' on a machine with an NVIDIA GPU and nvcc, or move the tensors to the CPU."


def is_available() -> bool:
    """Whether a GPU and the gsplat package are there."""
    return torch.cuda.is_available() and importlib.util.find_spec("gsplat") is not None


def rasterize_gsplat(tensors: tuple[Tensor, ...], width: int, height: int) -> tuple[Tensor, ...]:
    """Draw on the GPU.

    Args:
        tensors: means [N,3], quats [N,4], scales [N,3], opacities [N], colors [N,3], viewmats [C,4,4], Ks [C,3,3];
            float32 on one CUDA device. gsplat has no gradient with respect to Ks.
        width: Pixels.
        height: Pixels.

    Returns:
        rgb [C,3,H,W], alpha [C,1,H,W], depth [C,1,H,W].

    Raises:
        BackendUnavailableError: No GPU, no gsplat, or tensors that are not on a GPU.
        InvalidCameraError: The gradient of Ks is asked for.
    """
    means, quats, scales, opacities, colors, viewmats, Ks = tensors
    if not is_available():
        missing = "gsplat is not installed" if torch.cuda.is_available() else "no CUDA device is there"
        raise BackendUnavailableError(f"The gsplat backend cannot draw: {missing}. Way out: {_WAY_OUT}")
    if means.device.type != "cuda":
        raise BackendUnavailableError(
            f"The gsplat backend draws CUDA tensors only, these are on {means.device.type}. Way out: .to('cuda')."
        )
    if Ks.requires_grad and torch.is_grad_enabled():
        raise InvalidCameraError("The gsplat backend has no gradient for Ks; use backend='reference' or detach Ks.")
    c, n = viewmats.shape[0], means.shape[0]
    if not c or not n:  # an empty grid is an error to CUDA; the sum keeps the graph
        nothing = sum(t.sum() for t in tensors) * 0
        return tuple(means.new_zeros(c, channels, height, width) + nothing for channels in (3, 1, 1))
    from gsplat import rasterization

    picture, alpha, _ = rasterization(
        means, quats, scales, opacities, colors, viewmats, Ks, width, height, packed=False, render_mode="RGB+ED"
    )  # fmt: skip
    rgb, depth = picture.permute(0, 3, 1, 2).split([3, 1], dim=1)
    return rgb, alpha.permute(0, 3, 1, 2), depth
