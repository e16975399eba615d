"""The sharpening network on the CPU: our C++ in place of torch's convolutions, four times as fast.

Winograd's transform saves three of four multiplications, and what is black as far as the network sees is computed
once. Pictures differ from torch's by rounding, about 1e-5. The library is the rasteriser's; see model/splat/native.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, Structure, c_int32, c_void_p
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.perchead.sharpener import ConvBlock, Sharpener
from headlift.model.splat.native import check_status, load_library, thread_count

_LANES = 16  # channels are padded to whole vectors
# From three taps to the six points of F(4, 3): Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks".
_TAPS_TO_POINTS = (
    (1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1),
)  # fmt: skip


class _Convolution(Structure):
    _fields_ = (("inputs", c_int32), ("outputs", c_int32), ("weights", c_void_p), ("bias", c_void_p))


class _Network(Structure):
    _fields_ = (
        ("unshuffle", c_int32), ("radius", c_int32), ("count", c_int32),
        ("taps", c_void_p), ("convolutions", POINTER(_Convolution)),
    )  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    weights: Tensor  # [36, inputs, outputs]
    bias: Tensor  # [outputs]


class _Memory:
    """Working memory of one call at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.handle = c_void_p(library.hl_sharpen_memory())
        self._release = library.hl_sharpen_release

    def __del__(self) -> None:
        self._release(self.handle)


class NativeSharpener:
    """What ``Sharpener`` computes, clamped to 0..1. Thread-safe; the weights are copied once, here."""

    def __init__(self, network: Sharpener) -> None:
        """BackendUnavailableError: the library is not built here."""
        self._library = _declared(load_library())
        blocks = [b for b in network.blocks if isinstance(b, ConvBlock)]
        pairs = [conv for block in blocks for conv in (block.first, block.second)]
        self._layers = [transformed(conv) for conv in (network.first, *pairs, network.last)]
        self._taps = network.kernel.detach().float().contiguous()
        table = (_Convolution * len(self._layers))(
            *(_Convolution(*x.weights.shape[1:], x.weights.data_ptr(), x.bias.data_ptr()) for x in self._layers)
        )
        self._network = _Network(
            network.config.unshuffle, len(self._taps) // 2, len(self._layers), self._taps.data_ptr(), table
        )
        self._lock = threading.Lock()
        self._idle: list[_Memory] = []

    def __call__(self, pictures: Tensor, isa: int = -1) -> Tensor:
        """[C, 3, H, W] float32 on the CPU, in 0..1 -> sharpened, of the same shape; their number of threads as drawing.

        Raises:
            OverloadedError: Out of memory.
            BackendUnavailableError: ``isa``, a position in the library's table of instruction sets, is not there.
        """
        count, _, height, width = pictures.shape
        dense = pictures.detach().float().contiguous()
        sharp = torch.empty_like(dense)
        with self._lock:
            memory = self._idle.pop() if self._idle else _Memory(self._library)
        try:
            status = self._library.hl_sharpen(
                self._network, dense.data_ptr(), sharp.data_ptr(), count, width, height,
                memory.handle, thread_count(), isa,
            )  # fmt: skip
        finally:
            with self._lock:
                self._idle.append(memory)
        check_status(status)
        return sharp


def transformed(convolution: nn.Conv2d) -> _Layer:
    """A 3x3 convolution's weights at Winograd's 36 points, with channels padded by zeros."""
    points = torch.tensor(_TAPS_TO_POINTS, dtype=torch.float64)
    taps = convolution.weight.detach().double().cpu()
    weights = torch.einsum("ay,bx,oiyx->abio", points, points, taps).flatten(0, 1)
    inputs, outputs = (-n % _LANES for n in weights.shape[1:])
    bias = torch.zeros(taps.shape[0]) if convolution.bias is None else convolution.bias.detach().cpu()
    return _Layer(F.pad(weights, (0, outputs, 0, inputs)).float().contiguous(), F.pad(bias.float(), (0, outputs)))


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.hl_sharpen_memory.restype = c_void_p
    library.hl_sharpen_release.argtypes = [c_void_p]
    library.hl_sharpen_release.restype = None
    library.hl_sharpen.argtypes = [
        POINTER(_Network), c_void_p, c_void_p, c_int32, c_int32, c_int32, c_void_p, c_int32, c_int32,
    ]  # fmt: skip
    return library
