"""Checks what is to be drawn and hands it to a backend."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from headlift.errors import BackendUnavailableError, InvalidCameraError, InvalidGaussiansError, InvalidInputError
from headlift.model.passes import count_pass
from headlift.model.splat import cuda, native, reference
from headlift.model.types import Cameras, Gaussians, RenderedViews

Backend = Literal["auto", "native", "reference", "gsplat"]

_Form = tuple[int | str, ...]
_GAUSSIAN_SHAPES: dict[str, _Form] = {
    "means": ("N", 3), "quats": ("N", 4), "scales": ("N", 3), "opacities": ("N",), "colors": ("N", 3),
}  # fmt: skip
_CAMERA_SHAPES: dict[str, _Form] = {"viewmats": ("C", 4, 4), "Ks": ("C", 3, 3)}
_warned: list[str] = []


def available_backends() -> tuple[str, ...]:
    """Backends that can draw here, the fastest first. Builds the native one where it has not been yet."""
    found = []
    if cuda.is_available():
        found.append("gsplat")
    if native.unavailable_because() is None:
        found.append("native")
    return (*found, "reference")


def _check_shapes(gaussians: Gaussians, cameras: Cameras) -> None:
    for name, form in _GAUSSIAN_SHAPES.items():
        shape = tuple(getattr(gaussians, name).shape)
        if not _fits(shape, form, gaussians.means):
            raise InvalidGaussiansError(f"{name} has shape {shape}; {form} with one N for all attributes is needed.")
    for name, form in _CAMERA_SHAPES.items():
        shape = tuple(getattr(cameras, name).shape)
        if not _fits(shape, form, cameras.viewmats):
            raise InvalidCameraError(f"{name} has shape {shape}; {form} with one C for both matrices is needed.")


def _fits(shape: tuple[int, ...], form: _Form, first: Tensor) -> bool:
    return first.dim() > 0 and shape == (first.shape[0], *form[1:])


def _check_kinds(tensors: tuple[Tensor, ...]) -> None:
    kinds = {(t.dtype, t.device) for t in tensors}
    if len(kinds) > 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise InvalidInputError(
            f"Gaussians and cameras must share one dtype and device, found {found}; call .to() on them."
        )
    dtype = tensors[0].dtype
    if dtype not in {torch.float32, torch.float64}:
        raise InvalidInputError(
            f"Gaussians of {dtype} cannot be drawn; float32 (any backend) or float64 (reference) is needed."
        )


def _check_values(gaussians: Gaussians) -> None:
    """Names the attribute that cannot be drawn. Colours may leave 0..1 while they are being optimised."""
    for name in ("means", "quats", "scales", "opacities", "colors"):
        if not bool(torch.isfinite(getattr(gaussians, name)).all()):
            raise InvalidGaussiansError(f"{name} holds values that are not finite; remove those Gaussians first.")
    if len(gaussians) and float(gaussians.scales.detach().min()) < 0.0:
        raise InvalidGaussiansError("scales must be >= 0 (linear, not log).")
    opacities = gaussians.opacities.detach()
    if len(gaussians) and not 0.0 <= float(opacities.min()) <= float(opacities.max()) <= 1.0:
        raise InvalidGaussiansError("opacities must lie in 0..1 (activated, not logits).")


def _choose(backend: Backend, tensors: tuple[Tensor, ...]) -> Backend:
    if backend not in get_args(Backend):
        raise InvalidInputError(f"There is no backend {backend!r}; choose among {', '.join(get_args(Backend))}.")
    device, dtype = tensors[0].device.type, tensors[0].dtype
    if backend == "native" and (device != "cpu" or dtype != torch.float32):
        raise BackendUnavailableError(
            f"The native backend draws float32 on the CPU, these are {dtype} on {device}; use backend='auto'."
        )
    if backend == "gsplat" and dtype != torch.float32:
        raise BackendUnavailableError(f"The gsplat backend draws float32, these are {dtype}; use backend='reference'.")
    if backend != "auto":
        return backend
    if dtype == torch.float32 and device == "cuda" and cuda.is_available():
        return "gsplat"
    if dtype == torch.float32 and device == "cpu" and native.unavailable_because() is None:
        return "native"
    if not _warned:
        _warned.append("reference")
        warnings.warn(
            f"Drawing with the slow torch rasteriser: {_why_slow(device, dtype)}", RuntimeWarning, stacklevel=3
        )
    return "reference"


def _why_slow(device: str, dtype: torch.dtype) -> str:
    if dtype != torch.float32:
        return f"the fast ones draw float32 only, these are {dtype}."
    if device != "cpu":
        return f"gsplat is not installed for {device}; pip install 'headlift[cuda]'."
    return native.unavailable_because() or ""


def rasterize(gaussians: Gaussians, cameras: Cameras, *, backend: Backend = "auto") -> RenderedViews:
    """Draw Gaussians from every camera, over black, by the rules of gsplat 1.5.3.

    Differentiable in means, quats (which need not be normalised), scales, opacities, colors, viewmats and Ks (Ks not
    with gsplat). The gradient leaves out the dependence of what is drawn at all on the parameters, as gsplat's does.

    Args:
        gaussians: N of them, activated; N may be 0. Colours outside 0..1 are drawn as they are.
        cameras: C of them; C may be 0. Sizes within 1..16384 pixels.
        backend: ``auto`` takes gsplat for CUDA tensors, else native, built at first use, else the reference with one
            warning. float64 is drawn by the reference only.

    Returns:
        rgb [C,3,H,W] premultiplied, alpha [C,1,H,W], depth [C,1,H,W] in metres (0 where alpha is 0).

    Raises:
        InvalidGaussiansError: A shape or value of the Gaussians that cannot be drawn.
        InvalidCameraError: A shape or value of the cameras that cannot be drawn.
        InvalidInputError: Mixed devices or dtypes, a dtype that no backend draws, an unknown backend.
        BackendUnavailableError: The backend asked for is not there.
    """
    count_pass("rasterize")
    _check_shapes(gaussians, cameras)
    tensors = (
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors,
        cameras.viewmats, cameras.Ks,
    )  # fmt: skip
    _check_kinds(tensors)
    cameras.detach().validate()
    match _choose(backend, tensors):
        case "native":
            try:
                views = native.rasterize_native(tensors, cameras.width, cameras.height)
            except InvalidGaussiansError:
                _check_values(gaussians)  # says which attribute it was
                raise
        case "gsplat":
            _check_values(gaussians)
            views = cuda.rasterize_gsplat(tensors, cameras.width, cameras.height)
        case _:
            _check_values(gaussians)
            views = reference.rasterize_reference(tensors, cameras.width, cameras.height)
    return RenderedViews(*views)
