"""Our C++ rasteriser behind ``ctypes`` and ``torch.autograd``: float32 on the CPU.

The library is reentrant: all state of a picture lives in the call or in the object that the autograd node keeps, and
ctypes lets go of the interpreter lock, so several threads may draw at once. A call takes ``torch.get_num_threads()``
threads, or what :func:`drawing_threads` says; their number changes no bit of the result.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from ctypes import POINTER, Structure, c_char_p, c_int32, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from headlift.errors import BackendUnavailableError, InvalidGaussiansError, InvalidInputError, OverloadedError
from headlift.model.splat.library import ensure_native

MAX_GAUSSIANS = 1 << 24  # places in a tile's list are kept as float32

_BAD_VALUES, _TOO_MANY_TILES, _NO_MEMORY = 1, 2, 3


_threads: ContextVar[int | None] = ContextVar("headlift_drawing_threads", default=None)


@contextlib.contextmanager
def drawing_threads(count: int) -> Iterator[None]:
    """Within this context the native backend draws with ``count`` threads, whatever torch uses.

    Raises:
        InvalidInputError: ``count`` outside 1..256.
    """
    if not 1 <= count <= 256:
        raise InvalidInputError(f"{count} drawing threads were asked for; 1..256 are possible.")
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def thread_count() -> int:
    """Threads that a call of the native library takes in this context."""
    return min(_threads.get() or torch.get_num_threads(), 256)


class Scene(Structure):
    """Gaussians as the library takes them: HlScene in abi.h."""

    _fields_ = (("count", c_int64), *((n, c_void_p) for n in ("means", "quats", "scales", "opacities", "colors")))


class _Cameras(Structure):
    _fields_ = (("count", c_int64), ("viewmats", c_void_p), ("Ks", c_void_p), ("width", c_int32), ("height", c_int32))


class _Views(Structure):
    _fields_ = tuple((n, c_void_p) for n in ("rgb", "alpha", "depth"))


class _ViewGrads(Structure):
    _fields_ = tuple((n, c_void_p) for n in ("rgb", "alpha", "depth", "depth_out"))


class SceneGrads(Structure):
    """Arrays of Gaussians and cameras that the library writes: HlSceneGrads in abi.h."""

    _fields_ = tuple((n, c_void_p) for n in ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks"))


@functools.cache
def load_library() -> ctypes.CDLL:
    """The native library, built where it was not yet. BackendUnavailableError: it cannot be built or loaded here."""
    path = ensure_native()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendUnavailableError(
            "The native rasteriser was built for another system and cannot be loaded. "
            "Run python -m headlift.model.splat.build --force."
        ) from error
    library.hl_splat_forward.argtypes = [
        POINTER(Scene), POINTER(_Cameras), POINTER(_Views), c_int32, c_int32, POINTER(c_void_p),
    ]  # fmt: skip
    library.hl_splat_backward.argtypes = [
        c_void_p, POINTER(Scene), POINTER(_Cameras), POINTER(_ViewGrads), POINTER(SceneGrads), c_int32, c_int32,
    ]  # fmt: skip
    library.hl_splat_release.argtypes = [c_void_p]
    library.hl_splat_release.restype = None
    library.hl_splat_isa.argtypes = [c_int32]
    library.hl_splat_isa.restype = c_char_p
    return library


@functools.cache
def unavailable_because() -> str | None:
    """Why the native backend cannot draw on this machine; None where it can. Builds it where it has not been yet."""
    try:
        load_library()
    except BackendUnavailableError as error:
        return error.message
    return None


def instruction_sets() -> tuple[str, ...]:
    """Names of the instruction sets that this build and processor have, the best one last."""
    names = (load_library().hl_splat_isa(isa) for isa in range(3))
    return tuple(name.decode() for name in names if name)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def check_status(status: int) -> None:
    """Raise what a status of the native library other than HL_OK (abi.h) stands for."""
    if status == _BAD_VALUES:
        raise InvalidGaussiansError(
            "The Gaussians hold values that cannot be drawn: not finite, scales below 0, or opacities outside 0..1."
        )
    if status == _TOO_MANY_TILES:
        raise InvalidGaussiansError(
            "The Gaussians cover more than 33,554,432 tiles of 16x16 pixels in one picture; "
            "make their scales or the picture smaller."
        )
    if status == _NO_MEMORY:
        raise OverloadedError(
            "There is not enough memory to draw this picture; use fewer cameras at once or a smaller picture."
        )
    if status:
        raise BackendUnavailableError("The native rasteriser does not know the instruction set asked for.")


class _Kept:
    """What a forward call keeps for the backward pass; freed with the autograd node that owns it."""

    def __init__(self, handle: c_void_p) -> None:
        self.handle = handle
        self._release = load_library().hl_splat_release

    def __del__(self) -> None:
        self._release(self.handle)


def _scene(tensors: tuple[Tensor, ...]) -> Scene:
    return Scene(tensors[0].shape[0], *(t.data_ptr() for t in tensors))


def _draw(
    tensors: tuple[Tensor, ...], size: tuple[int, int], isa: int, keep: bool
) -> tuple[tuple[Tensor, ...], _Kept | None]:
    width, height = size
    viewmats, Ks = tensors[5:]
    c = viewmats.shape[0]
    views = tuple(torch.empty(c, channels, height, width) for channels in (3, 1, 1))
    cameras = _Cameras(c, viewmats.data_ptr(), Ks.data_ptr(), width, height)
    handle = c_void_p()
    status = load_library().hl_splat_forward(
        _scene(tensors[:5]),
        cameras,
        _Views(*map(_pointer, views)),
        thread_count(),
        isa,
        handle if keep else None,
    )
    check_status(status)
    return views, _Kept(handle) if keep else None


class _Rasterize(torch.autograd.Function):
    """The drawing with its analytic gradient, the projection's and the camera's included."""

    @staticmethod
    def forward(ctx: Any, size: tuple[int, int], isa: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        views, ctx.kept = _draw(tensors, size, isa, keep=True)
        ctx.save_for_backward(*tensors, views[2])
        ctx.size, ctx.isa = size, isa
        ctx.set_materialize_grads(False)
        return views

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *v_views: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, depth = ctx.saved_tensors
        # torch would clear them on OpenMP's threads, which then spin
        grads = [
            torch.empty_like(t) if wanted else None for t, wanted in zip(tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        dense = [None if v is None else v.float().contiguous() for v in v_views]
        width, height = ctx.size
        cameras = _Cameras(tensors[5].shape[0], tensors[5].data_ptr(), tensors[6].data_ptr(), width, height)
        status = load_library().hl_splat_backward(
            ctx.kept.handle,
            _scene(tuple(tensors[:5])),
            cameras,
            _ViewGrads(*map(_pointer, dense), depth.data_ptr()),
            SceneGrads(*map(_pointer, grads)),
            thread_count(),
            ctx.isa,
        )
        check_status(status)
        return (None, None, *grads)


def rasterize_native(tensors: tuple[Tensor, ...], width: int, height: int, *, isa: int = -1) -> tuple[Tensor, ...]:
    """Draw on the CPU.

    Args:
        tensors: means [N,3], quats [N,4], scales [N,3], opacities [N], colors [N,3], viewmats [C,4,4], Ks [C,3,3];
            float32 on the CPU.
        width: Pixels.
        height: Pixels.
        isa: Position in the library's table of instruction sets; below 0 for the best one.

    Returns:
        rgb [C,3,H,W], alpha [C,1,H,W], depth [C,1,H,W].

    Raises:
        BackendUnavailableError: It cannot be built here, or there is no such instruction set.
        InvalidGaussiansError: Values that cannot be drawn, or too many Gaussians.
        OverloadedError: Out of memory.
    """
    if tensors[0].shape[0] >= MAX_GAUSSIANS:
        raise InvalidGaussiansError(
            f"{tensors[0].shape[0]} Gaussians are too many for the native rasteriser; its limit is {MAX_GAUSSIANS - 1}."
        )
    if tensors[5].shape[0] == 0:
        return tuple(tensors[0].new_zeros(0, channels, height, width) for channels in (3, 1, 1))
    dense = tuple(t.contiguous() for t in tensors)
    if torch.is_grad_enabled() and any(t.requires_grad for t in dense):
        views: tuple[Tensor, ...] = _Rasterize.apply((width, height), isa, *dense)
        return views
    return _draw(tuple(t.detach() for t in dense), (width, height), isa, keep=False)[0]
