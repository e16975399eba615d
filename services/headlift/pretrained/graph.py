"""A converted TensorFlow Lite graph in plain torch: batched, differentiable, with nothing but torch at run time.

``headlift.pretrained.tflite`` makes the graph. Operators are those of MediaPipe's face mesh and selfie segmentation,
its four custom ones included. Pictures come as [B, 3, H, W]; maps inside are channels first, and reshaping happens in
TensorFlow's order, channels last.

Legend: B batch, n points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SAME = 0  # padding
_RELU, _RELU6 = 1, 3
Options = dict[str, Any]


class GraphNetwork(nn.Module):
    """A frozen graph; gradients reach its pictures."""

    def __init__(self, graph: Options, weights: dict[str, Tensor]) -> None:
        """``graph`` and ``weights`` as ``convert`` gives them."""
        super().__init__()
        self._nodes, self._outputs = graph["nodes"], graph["outputs"]
        (self._input,) = graph["inputs"]
        for number, value in weights.items():
            self.register_buffer(f"w{number}", value.float() if value.is_floating_point() else value)
        self._numbers = tuple(int(number) for number in weights)
        last: dict[int, int] = {}
        for i, node in enumerate(self._nodes):
            last |= dict.fromkeys(node["inputs"], i)
        keep = {*self._numbers, *self._outputs}
        self._done_after = [[k for k, v in last.items() if v == i and k not in keep] for i in range(len(self._nodes))]

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> the graph's outputs: maps [B, C, h, w], vectors [B, ...]."""
        values: dict[int, Tensor] = {number: getattr(self, f"w{number}") for number in self._numbers}
        values[self._input] = pictures
        for node, done in zip(self._nodes, self._done_after, strict=True):
            values[node["outputs"][0]] = _OPERATORS[node["op"]]([values[i] for i in node["inputs"]], node)
            for number in done:
                del values[number]
        return [values[i] for i in self._outputs]


def _activated(x: Tensor, code: int) -> Tensor:
    if code == _RELU:
        return F.relu(x)
    return F.relu6(x) if code == _RELU6 else x


def _padded(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0) -> Tensor:
    """TensorFlow's SAME padding, whose odd pixel lies right and below."""
    pads: list[int] = []
    for size, k, s in zip((x.shape[3], x.shape[2]), kernel[::-1], stride[::-1], strict=True):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


def _conv(inputs: list[Tensor], options: Options, groups: int = 1) -> Tensor:
    x, weight = inputs[0], inputs[1]
    stride = options["stride_h"], options["stride_w"]
    if options["padding"] == _SAME:
        x = _padded(x, (weight.shape[2], weight.shape[3]), stride)
    bias = inputs[2] if len(inputs) > 2 else None
    return _activated(F.conv2d(x, weight, bias, stride, groups=groups), options["activation"])


def _max_pool(inputs: list[Tensor], options: Options) -> Tensor:
    kernel, stride = (options["height"], options["width"]), (options["stride_h"], options["stride_w"])
    x = _padded(inputs[0], kernel, stride, -math.inf) if options["padding"] == _SAME else inputs[0]
    return F.max_pool2d(x, kernel, stride)


def _average_pool(inputs: list[Tensor], options: Options) -> Tensor:
    return F.avg_pool2d(inputs[0], (options["height"], options["width"]), (options["stride_h"], options["stride_w"]))


def _pad(inputs: list[Tensor], options: Options) -> Tensor:
    _, rows, columns, channels = options["argument"]
    return F.pad(inputs[0], [*columns, *rows, *channels])


def _resize(inputs: list[Tensor], options: Options) -> Tensor:
    size = options["shape"][1], options["shape"][2]
    return F.interpolate(inputs[0], size, mode="bilinear", align_corners=bool(options["align_corners"]))


def _reshape(inputs: list[Tensor], options: Options) -> Tensor:
    x = inputs[0].permute(0, 2, 3, 1) if inputs[0].dim() == 4 else inputs[0]
    x = x.reshape(len(x), *options["shape"][1:])
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def _slice(inputs: list[Tensor], options: Options) -> Tensor:
    """A part of every axis but the first."""
    x = inputs[0].permute(0, 2, 3, 1) if inputs[0].dim() == 4 else inputs[0]
    for axis in range(1, x.dim()):
        begin = 0 if options["begin_mask"] >> axis & 1 else options["begin"][axis]
        end = x.shape[axis] if options["end_mask"] >> axis & 1 else options["end"][axis]
        x = x.narrow(axis, begin, end - begin)
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def _crop_matrix(inputs: list[Tensor], options: Options) -> Tensor:
    """The [B, 4, 4] map from a crop's pixels to the picture's, about some of the points [B, n, 3]."""
    points = inputs[0]
    left, right = (points[:, options[f"{side}_rotation_idx"], :2] for side in ("left", "right"))
    across = right - left
    turn = options.get("target_rotation_radians", 0.0) - torch.atan2(across[:, 1], across[:, 0])
    c, s = turn.cos(), turn.sin()
    x, y = points[:, options["subset_idxs"], :2].unbind(-1)
    turned = torch.stack([c[:, None] * x - s[:, None] * y, s[:, None] * x + c[:, None] * y], -1)
    high, low = turned.amax(1), turned.amin(1)
    middle, size = (high + low) / 2, high - low
    center = torch.stack([c * middle[:, 0] + s * middle[:, 1], c * middle[:, 1] - s * middle[:, 0]], -1)
    width, height = options["output_width"], options["output_height"]
    scale_x, scale_y = options["scale_x"] * size[:, 0] / width, options["scale_y"] * size[:, 1] / height
    linear = torch.stack([torch.stack([c * scale_x, s * scale_y], -1), torch.stack([-s * scale_x, c * scale_y], -1)], 1)
    matrix = torch.eye(4).to(points).repeat(len(points), 1, 1)
    matrix[:, :2, :2] = linear
    matrix[:, :2, 3] = center - linear @ points.new_tensor([width / 2, height / 2])
    return matrix


def _crop(inputs: list[Tensor], options: Options) -> Tensor:
    """A map sampled where ``_crop_matrix`` says; 0 beyond its border."""
    x, matrix = inputs
    height, width = options["output_height"], options["output_width"]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at = torch.stack([columns + 0.5, rows + 0.5], -1).to(x).reshape(-1, 2)
    at = at @ matrix[:, :2, :2].mT + matrix[:, None, :2, 3] - 0.5
    last = at.new_tensor([x.shape[3] - 1.0, x.shape[2] - 1.0])
    inside = ((at >= 0) & (at <= last)).all(-1).reshape(len(x), 1, height, width)
    grid = (2 * at / last - 1).reshape(len(x), height, width, 2)
    return F.grid_sample(x, grid, align_corners=True, padding_mode="border") * inside


def _moved_landmarks(inputs: list[Tensor], options: Options) -> Tensor:
    points, matrix = inputs
    xy = points[..., :2] @ matrix[:, :2, :2].mT + matrix[:, None, :2, 3]
    return torch.cat([xy, points[..., 2:]], -1)


_OPERATORS: dict[str, Callable[[list[Tensor], Options], Tensor]] = {
    "ADD": lambda x, o: _activated(x[0] + x[1], o["activation"]),
    "MUL": lambda x, o: _activated(x[0] * x[1], o["activation"]),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": lambda x, o: _conv(x, o, groups=x[1].shape[0]),
    "Convolution2DTransposeBias": lambda x, o: F.conv_transpose2d(x[0], x[1], x[2], 2),
    "MAX_POOL_2D": _max_pool,
    "AVERAGE_POOL_2D": _average_pool,
    "MEAN": lambda x, o: x[0].mean((2, 3), keepdim=True),
    "PRELU": lambda x, o: F.prelu(x[0], x[1]),
    "RELU": lambda x, o: F.relu(x[0]),
    "HARD_SWISH": lambda x, o: F.hardswish(x[0]),
    "LOGISTIC": lambda x, o: x[0].sigmoid(),
    "CONCATENATION": lambda x, o: torch.cat(x, 1),  # of [B, n, 2]: parts of one list of points
    "PAD": _pad,
    "RESIZE_BILINEAR": _resize,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _slice,
    "Landmarks2TransformMatrix": _crop_matrix,
    "TransformTensorBilinear": _crop,
    "TransformLandmarks": _moved_landmarks,
}
