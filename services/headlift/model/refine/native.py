"""Refinement's own part of a step on the CPU: our C++ in place of some forty torch operations, a sixth of their time.

The library is the rasteriser's; see model/splat/native. Results differ from torch's by rounding, and not with the
number of threads.

Legend: N Gaussians.
"""

from __future__ import annotations

import ctypes
import functools
import math
from ctypes import POINTER, Structure, c_double, c_float, c_int32, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from headlift.model.adam import BETAS, EPS
from headlift.model.refine.change import GaussianChange
from headlift.model.splat.native import Scene, SceneGrads, check_status, load_library, thread_count
from headlift.model.types import Gaussians, RenderedViews

_ROW = 16  # floats a Gaussian
_CM = 0.01  # m
_Row = c_float * _ROW
_FIELDS = ("means", "colors", "scales", "opacities")


class _State(Structure):
    _fields_ = (
        ("count", c_int64), ("degree", c_int32),
        *((n, c_void_p) for n in ("neighbors", "sources", "offsets", "mirror", "places")),
        *((n, c_void_p) for n in ("start", "change", "first", "second", "residuals")),
    )  # fmt: skip


class _Step(Structure):
    _fields_ = (
        *((n, _Row) for n in ("smooth", "pull", "rate")),
        *((n, c_float) for n in ("beta1", "beta2", "correction2", "eps", "floor", "mirror")),
        *((n, c_float) for n in ("max_offset", "max_logit", "max_log_growth")),
    )


class _PictureError(Structure):
    _fields_ = (
        *((n, c_int32) for n in ("width", "height", "levels")),
        *((n, c_void_p) for n in ("rgb", "alpha", "image", "target_alpha", "source_mask", "color_weight")),
        ("background", c_float * 3), ("weights", c_float * 5), ("alpha_weight", c_float),
        ("v_rgb", c_void_p), ("v_alpha", c_void_p),
    )  # fmt: skip


@functools.cache
def _library() -> ctypes.CDLL:
    library = load_library()
    library.hl_refine_update.argtypes = [
        POINTER(_State), POINTER(_Step), POINTER(Scene), POINTER(SceneGrads), c_int32, c_int32, POINTER(c_double),
    ]  # fmt: skip
    library.hl_picture_error.argtypes = [POINTER(_PictureError), c_int32, POINTER(c_double)]
    return library


class NativeGaussianChange:
    """What ``GaussianChange`` is, in rows of sixteen numbers a Gaussian."""

    def __init__(self, change: GaussianChange) -> None:
        """Take over a change that has not moved yet; float32 on the CPU."""
        self._settings, n = change.settings, len(change.start)
        trust = torch.ones(n) if change.trust is None else change.trust
        columns = (
            change.start.means, change.color_logits, change.start.scales, change.opacity_logits[:, None],
            change.scale_limit, trust[:, None], change.hidden[:, None],
        )  # fmt: skip
        self._start = torch.zeros(n + 1, _ROW)
        self._start[:n, :15] = torch.cat(columns, 1)
        self._rows = [torch.zeros(n, _ROW) for _ in range(4)]
        sources, offsets = change.graph.sources
        places = torch.full((n,), -1, dtype=torch.int32)
        places[change.seen] = torch.arange(len(change.seen), dtype=torch.int32)
        graph = change.graph.neighbors, sources, offsets, change.graph.mirror, places
        self._graph = [t.int().contiguous() for t in graph]
        self._state = _State(
            n, change.graph.neighbors.shape[1],
            *(t.data_ptr() for t in (*self._graph, self._start, *self._rows)),
        )  # fmt: skip
        self._change, self._drawn = change, change.drawn().detach()
        for name in _FIELDS:
            getattr(self._drawn, name).requires_grad_()
        self._steps = 0

    def drawn(self) -> Gaussians:
        """The changed Gaussians that take part in the picture: leaves of the graph, overwritten by ``step``."""
        return self._drawn

    def gaussians(self) -> Gaussians:
        """All changed Gaussians."""
        rows = self._rows[0]
        return self._change.activated(rows[:, :3] * _CM, rows[:, 3:6], rows[:, 6:9], rows[:, 9])

    def step(self, share: float) -> float:
        """One step of Adam at ``share`` of the rates; the regularisers' energy before it."""
        self._steps += 1
        s, n = self._settings, self._state.count
        rates = [s.means_rate / _CM, s.colors_rate, s.scales_rate, s.opacities_rate]
        factor = share / (1 - BETAS[0] ** self._steps)
        step = _Step(
            _row([s.smooth_means, s.smooth_colors, s.smooth_scales, s.smooth_opacities], 1 / n),
            _row([s.pull_means, s.pull_others, s.pull_others, s.pull_others], 1 / n),
            _row(rates, factor),
            *BETAS, math.sqrt(1 - BETAS[1] ** self._steps), EPS, s.gradient_floor, s.mirror_colors / n,
            s.max_offset / _CM, s.max_logit, math.log(s.max_growth),
        )  # fmt: skip
        leaves = {name: getattr(self._drawn, name) for name in _FIELDS}
        grads = {name: leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for name, leaf in leaves.items()}
        energy = c_double()
        status = _library().hl_refine_update(
            self._state,
            step,
            Scene(count=len(self._drawn), **{name: grad.contiguous().data_ptr() for name, grad in grads.items()}),
            SceneGrads(**{name: leaf.data_ptr() for name, leaf in leaves.items()}),
            thread_count(),
            -1,
            energy,
        )
        check_status(status)
        for leaf in leaves.values():
            leaf.grad = None
        return energy.value


def _row(values: list[float], factor: float) -> Any:
    """Numbers of means, colours, scales and opacities in their lanes."""
    means, colors, scales, opacities = (value * factor for value in values)
    return _Row(*[means] * 3, *[colors] * 3, *[scales] * 3, opacities)


def native_picture_error(
    views: RenderedViews,
    image: Tensor,
    alpha: Tensor,
    source_mask: Tensor,
    color_weight: Tensor,
    background: Tensor,
    weights: tuple[float, ...],
    alpha_weight: float,
) -> Tensor:
    """``picture_error``, argument for argument; float32 on the CPU."""
    pictures = views.rgb, views.alpha, image, alpha, source_mask, color_weight
    error: Tensor = _PictureErrorFunction.apply(background, weights, alpha_weight, *pictures)
    return error


class _PictureErrorFunction(torch.autograd.Function):
    """The gradient is computed on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, background: Tensor, weights: tuple[float, ...], alpha_weight: float, *pictures: Tensor
    ) -> Tensor:
        dense = [t.contiguous() for t in pictures]
        ctx.gradients = torch.empty_like(dense[0]), torch.empty_like(dense[1])
        height, width = dense[0].shape[-2:]
        loss = c_double()
        job = _PictureError(
            width, height, len(weights), *(t.data_ptr() for t in dense), (c_float * 3)(*background.tolist()),
            (c_float * 5)(*weights), alpha_weight, *(t.data_ptr() for t in ctx.gradients),
        )  # fmt: skip
        check_status(_library().hl_picture_error(job, thread_count(), loss))
        return dense[0].new_tensor(loss.value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_error: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(gradient * v_error for gradient in ctx.gradients), None, None, None, None)
