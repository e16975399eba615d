"""Our C++ deformation behind ``ctypes``: float32 on the CPU, reentrant, the same bits with any number of threads."""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_int32, c_int64, c_void_p
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headlift.errors import OverloadedError
from headlift.model.splat.native import load_library, thread_count

if TYPE_CHECKING:
    from headlift.model.drive.deform import BoundRig


class _Deformation(Structure):
    _fields_ = (
        ("count", c_int64), ("total", c_int64), ("shapes", c_int32), ("turns", c_int32),
        *((name, c_void_p) for name in (
            "used", "weights", "basis", "rows", "neighbors", "slopes", "tangents", "axes", "means", "quats", "scales",
            "turning", "turn_table", "displacements", "out_means", "out_quats", "out_scales",
        )),
    )  # fmt: skip


@cache
def _function() -> Any:
    function = load_library().hl_deform
    function.argtypes = [POINTER(_Deformation), c_int32]
    return function


def deform(bound: BoundRig, weights: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, quats and scales [N + M] under weights [52] and turns [256, 7] (quaternion, shift)."""
    rest, count = bound.rest, len(bound.rows)
    used = torch.nonzero(weights)[:, 0].int()
    values = weights[used.long()].contiguous()
    turns = turns.contiguous()
    displacements = torch.empty(3, count)
    means, quats, scales = torch.empty_like(rest.means), torch.empty_like(rest.quats), torch.empty_like(rest.scales)
    inputs = (
        used, values, bound.basis, bound.rows, bound.neighbors, bound.slopes, bound.tangents, bound.axes, rest.means,
        rest.quats, rest.scales, bound.turning, turns, displacements, means, quats, scales,
    )  # fmt: skip
    job = _Deformation(
        count, len(rest), len(used), int(bool(turns[-1, 1:].any())), *(tensor.data_ptr() for tensor in inputs)
    )
    if _function()(byref(job), thread_count()):
        raise OverloadedError("There is not enough memory to move this head; drive fewer heads at once.")
    return means, quats, scales
