"""TensorFlow Lite files without TensorFlow: what of their format MediaPipe's small models use, read into tensors.

A `.tflite` file is a FlatBuffer of TensorFlow's `schema.fbs`; options of custom operators are FlexBuffers. Both are
read here as far as needed, so that neither TensorFlow nor a flatbuffers package has to be there. ``convert`` is run
once, when a model is installed; ``headlift.pretrained.graph`` runs what comes out.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headlift.errors import CorruptWeightsError

_TYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}
_OPERATORS = {
    0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    14: "LOGISTIC", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 22: "RESHAPE", 23: "RESIZE_BILINEAR", 32: "CUSTOM",
    34: "PAD", 40: "MEAN", 45: "STRIDED_SLICE", 54: "PRELU", 117: "HARD_SWISH",
}  # fmt: skip
# Fields of the operators' options: name, place in the table, type, default.
_POOL = (("padding", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0), ("width", 3, "i", 0),
         ("height", 4, "i", 0))  # fmt: skip
_CONV = (("padding", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0))
_OPTIONS: dict[str, tuple[tuple[str, int, str, int], ...]] = {
    "CONV_2D": (*_CONV, ("activation", 3, "b", 0)),
    "DEPTHWISE_CONV_2D": (*_CONV, ("activation", 4, "b", 0)),
    "ADD": (("activation", 0, "b", 0),),
    "MUL": (("activation", 0, "b", 0),),
    "MAX_POOL_2D": _POOL,
    "AVERAGE_POOL_2D": _POOL,
    "RESIZE_BILINEAR": (("align_corners", 2, "?", 0),),
    "STRIDED_SLICE": (("begin_mask", 0, "i", 0), ("end_mask", 1, "i", 0)),
}
_TRANSPOSED_CONV = "Convolution2DTransposeBias"
# TensorFlow keeps channels last, torch first.
_TO_TORCH = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), _TRANSPOSED_CONV: (3, 0, 1, 2)}


def convert(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The graph of a model, fit for JSON, and its weights by number of the tensor.

    Raises:
        CorruptWeightsError: It is no TensorFlow Lite file, or has operators or sparse weights that are not read here.
    """
    if data[4:8] != b"TFL3":
        raise CorruptWeightsError("The file is no TensorFlow Lite model; fetch it again.")
    try:
        return _converted(data)
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise CorruptWeightsError(f"The TensorFlow Lite model cannot be read ({error}); fetch it again.") from error


def _converted(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    model = _Table.root(data)
    graph = model.tables(2)[0]
    shapes, constants = _tensors(model, graph)
    codes = [_operator_name(code) for code in model.tables(1)]
    nodes: list[dict[str, Any]] = []
    for operator in graph.tables(3):
        name, inputs, outputs = codes[operator.scalar(0, "I")], operator.ints(1), operator.ints(2)
        if name == "DEQUANTIZE" and inputs[0] in constants:  # half precision weights: they become float at run time
            constants[outputs[0]] = constants[inputs[0]]
            continue
        options = _options(name, operator) | {"shape": shapes[outputs[0]]}
        if name == "STRIDED_SLICE":
            options |= {key: constants[inputs[i]].tolist() for key, i in (("begin", 1), ("end", 2))}
        elif name in ("PAD", "MEAN"):
            options["argument"] = constants[inputs[1]].tolist()
        if name in ("STRIDED_SLICE", "PAD", "MEAN", "RESHAPE", "RESIZE_BILINEAR"):
            inputs = inputs[:1]
        nodes.append({"op": name, "inputs": inputs, "outputs": outputs} | options)
    weights: dict[str, Tensor] = {}
    for node in nodes:
        for place, number in enumerate(node["inputs"]):
            if number in constants:
                value = torch.from_numpy(constants[number].copy())
                weights[str(number)] = _in_torch_order(value, node["op"], place).contiguous()
    return {"nodes": nodes, "inputs": graph.ints(1), "outputs": graph.ints(2)}, weights


def _tensors(model: _Table, graph: _Table) -> tuple[list[list[int]], dict[int, np.ndarray[Any, Any]]]:
    """Shapes of all tensors, and the values of those that are constant."""
    buffers, shapes, constants = model.tables(4), [], {}
    for number, tensor in enumerate(graph.tables(0)):
        shapes.append(tensor.ints(0))
        content = buffers[tensor.scalar(2, "I")].blob(0)
        if content and tensor.has(6):
            raise ValueError("its weights are sparse")
        if content:
            kind = _TYPES[tensor.scalar(1, "b")]
            constants[number] = np.frombuffer(content, kind).reshape(shapes[-1])
    return shapes, constants


def _operator_name(code: _Table) -> str:
    name = _OPERATORS[max(code.scalar(0, "b"), code.scalar(3, "i"))]
    return code.text(1) if name == "CUSTOM" else name


def _options(name: str, operator: _Table) -> dict[str, Any]:
    if name in _OPTIONS:
        table = operator.table(4)
        return {key: table.scalar(place, kind, default) for key, place, kind, default in _OPTIONS[name]}
    custom = operator.blob(5)
    return _flex_map(custom) if custom and name != _TRANSPOSED_CONV else {}


def _in_torch_order(value: Tensor, operator: str, place: int) -> Tensor:
    if place and value.dim() == 4 and operator in _TO_TORCH:
        return value.permute(*_TO_TORCH[operator])
    if operator == "PRELU" and place:
        return value.reshape(-1)
    if value.dim() == 4:
        return value.permute(0, 3, 1, 2)
    return value


class _Table:
    """A table of a FlatBuffer: fields by their place in the schema."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - _read(data, at, "i")
        self._size = _read(data, self._fields, "H")

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, _read(data, 0, "I"))

    def _field(self, place: int) -> int:
        """Where a field lies; 0 where it has its default."""
        slot = 4 + 2 * place
        offset = _read(self._data, self._fields + slot, "H") if slot < self._size else 0
        return self._at + offset if offset else 0

    def has(self, place: int) -> bool:
        return bool(self._field(place))

    def scalar(self, place: int, kind: str, default: int = 0) -> int:
        at = self._field(place)
        return int(_read(self._data, at, kind)) if at else default

    def _vector(self, place: int) -> tuple[int, int]:
        at = self._field(place)
        if not at:
            return 0, 0
        at += _read(self._data, at, "I")
        return at + 4, _read(self._data, at, "I")

    def ints(self, place: int) -> list[int]:
        at, count = self._vector(place)
        return list(struct.unpack_from(f"<{count}i", self._data, at))

    def blob(self, place: int) -> bytes:
        at, count = self._vector(place)
        if at + count > len(self._data):
            raise ValueError("it ends too early")
        return self._data[at : at + count]

    def text(self, place: int) -> str:
        return self.blob(place).decode()

    def table(self, place: int) -> _Table:
        at = self._field(place)
        if not at:
            raise ValueError("an operator has no options")
        return _Table(self._data, at + _read(self._data, at, "I"))

    def tables(self, place: int) -> list[_Table]:
        at, count = self._vector(place)
        places = (at + 4 * i for i in range(count))
        return [_Table(self._data, p + _read(self._data, p, "I")) for p in places]


def _read(data: bytes, at: int, kind: str) -> Any:
    return struct.unpack_from("<" + kind, data, at)[0]


_INT, _UINT, _FLOAT, _MAP, _VECTOR, _BOOL = 1, 2, 3, 9, 10, 26
_TYPED_VECTORS = {11: _INT, 12: _UINT, 13: _FLOAT, 36: _BOOL}
_SCALARS = {_INT: "bhiq", _UINT: "BHIQ", _FLOAT: "?efd", _BOOL: "BHIQ"}


def _flex_map(data: bytes) -> dict[str, Any]:
    """The map that is the root of a FlexBuffer, with numbers and vectors of numbers as values."""
    width, packed = data[-1], data[-2]
    value = _flex_value(data, len(data) - 2 - width, width, packed)
    if not isinstance(value, dict):
        raise ValueError("options are no map")
    return value


def _flex_value(data: bytes, at: int, width: int, packed: int) -> Any:
    kind, child = packed >> 2, 1 << (packed & 3)
    if kind in _SCALARS:
        return _flex_scalar(data, at, width, kind)
    start = at - _flex_scalar(data, at, width, _UINT)
    count = _flex_scalar(data, start - child, child, _UINT)
    places = [start + i * child for i in range(count)]
    if kind in _TYPED_VECTORS:
        return [_flex_scalar(data, p, child, _TYPED_VECTORS[kind]) for p in places]
    if kind not in (_MAP, _VECTOR):
        raise ValueError(f"options have a value of kind {kind}")
    types = start + count * child
    values = [_flex_value(data, p, child, data[types + i]) for i, p in enumerate(places)]
    return dict(zip(_flex_keys(data, start, child, count), values, strict=True)) if kind == _MAP else values


def _flex_keys(data: bytes, start: int, width: int, count: int) -> list[str]:
    where = start - 3 * width
    keys = where - _flex_scalar(data, where, width, _UINT)
    key_width = _flex_scalar(data, start - 2 * width, width, _UINT)
    found = []
    for i in range(count):
        at = keys + i * key_width
        at -= _flex_scalar(data, at, key_width, _UINT)
        found.append(data[at : data.index(0, at)].decode())
    return found


def _flex_scalar(data: bytes, at: int, width: int, kind: int) -> Any:
    value = _read(data, at, _SCALARS[kind][width.bit_length() - 1])
    return bool(value) if kind == _BOOL else value
