"""Just enough of glTF 2.0: the GLB container, accessors in its one buffer, transforms of nodes.

Every number of the JSON is judged before it is used: it may be of any type and size. Specification:
Khronos glTF 2.0, sections 3.5 (nodes), 3.6 (buffers, accessors), 4.4 (GLB).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats.cloud import Array

MAGIC = b"glTF"
FLOAT, POINTS, ARRAY_BUFFER = 5126, 0, 34962
COMPONENT_TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "f4": FLOAT}

_HEAD = struct.Struct("<4sII")
_CHUNK = struct.Struct("<I4s")
_MAX_JSON = 4 << 20  # bytes; parsed it takes up to thirty times that
_MAX_NODES = 10_000
_COMPONENTS = {number: f"<{name}" for name, number in COMPONENT_TYPES.items()}
_WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Document:
    """The JSON of a GLB file and its binary chunk."""

    root: dict[str, Any]
    binary: memoryview

    def items(self, name: str) -> list[Any]:
        """A top-level array, empty where it is absent."""
        value = self.root.get(name, [])
        if not isinstance(value, list):
            raise FormatError(f"{name!r} of the GLB is no array; the file is not valid glTF.")
        return value

    def item(self, name: str, index: object) -> dict[str, Any]:
        """One object of a top-level array."""
        items = self.items(name)
        at = whole(index, len(items) - 1, f"index into {name}")
        if not isinstance(items[at], dict):
            raise FormatError(f"{name}[{at}] of the GLB is no object; the file is not valid glTF.")
        item: dict[str, Any] = items[at]
        return item


def whole(value: object, top: int, what: str) -> int:
    """``value`` as a whole number 0..top, or a FormatError that says ``what`` it was."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
        raise FormatError(f"The GLB gives {excerpt(value)} as {what}; a whole number 0..{top:,} is needed.")
    return value


def excerpt(value: object) -> str:
    """A JSON value for a message: short, and of arrays and objects the kind alone, which may be nested without end."""
    return type(value).__name__ if isinstance(value, (list, dict)) else str(value)[:32]


def write_glb(root: dict[str, Any], binary: bytes) -> bytes:
    """A GLB file of a JSON tree and one buffer."""
    text = json.dumps(root, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = _HEAD.size + 2 * _CHUNK.size + len(text) + len(binary)
    head = _HEAD.pack(MAGIC, 2, total)
    return b"".join((head, _CHUNK.pack(len(text), b"JSON"), text, _CHUNK.pack(len(binary), b"BIN\0"), binary))


def read_glb(data: bytes) -> Document:
    """Container and JSON of a GLB file.

    Raises:
        FormatError: Not GLB 2, cut off, or its JSON is broken.
    """
    if len(data) < _HEAD.size + _CHUNK.size or not data.startswith(MAGIC):
        raise FormatError(
            f"These {len(data):,} bytes do not start with the header of a GLB file ('glTF' and 16 bytes more)."
        )
    _, version, total = _HEAD.unpack_from(data)
    if version != 2 or total > len(data):
        raise FormatError(
            f"The GLB header announces version {version} and {total:,} bytes; version 2 is read and {len(data):,} "
            "bytes are there. Fetch the file again."
        )
    view = memoryview(data)[:total]
    text, rest = _chunk(view[_HEAD.size :], b"JSON")
    if len(text) > _MAX_JSON:
        raise FormatError(f"The JSON of the GLB takes {len(text):,} bytes; at most {_MAX_JSON:,} are read.")
    try:
        root = json.loads(bytes(text))
    except (ValueError, RecursionError):
        raise FormatError("The JSON of the GLB cannot be parsed; the file is damaged.") from None
    if not isinstance(root, dict):
        raise FormatError("The JSON of the GLB is no object; the file is not valid glTF.")
    return Document(root, _chunk(rest, b"BIN\0")[0] if len(rest) else rest)


def _chunk(view: memoryview, kind: bytes) -> tuple[memoryview, memoryview]:
    """Content of the chunk that starts here, and what follows it."""
    if len(view) < _CHUNK.size:
        raise FormatError(f"The GLB ends where its {kind!r} chunk should start; it was cut off.")
    length, name = _CHUNK.unpack_from(view)
    if name != kind or length > len(view) - _CHUNK.size:
        raise FormatError(
            f"The GLB has a chunk {name!r} of {length:,} bytes where {kind!r} of at most "
            f"{len(view) - _CHUNK.size:,} is needed; it is cut off or not valid."
        )
    return view[_CHUNK.size : _CHUNK.size + length], view[_CHUNK.size + length :]


def accessor_count(document: Document, index: object) -> int:
    """Number of elements of an accessor."""
    return whole(document.item("accessors", index).get("count"), 1 << 32, "count of an accessor")


def read_accessor(document: Document, index: object, kind: str) -> Array:
    """Elements of an accessor as float32, [count, width of ``kind``]; normalised integers become fractions.

    Raises:
        FormatError: Of another kind, sparse, outside of the buffer, or the buffer is not in the file.
    """
    accessor = document.item("accessors", index)
    component = accessor.get("componentType")
    if (
        accessor.get("type") != kind
        or not isinstance(component, int)
        or component not in _COMPONENTS
        or "sparse" in accessor
    ):
        raise FormatError(
            f"A GLB accessor is {excerpt(accessor.get('type'))} of component type {excerpt(component)}; a plain "
            f"{kind} of floats, bytes or shorts is needed."
        )
    dtype, width = np.dtype(_COMPONENTS[component]), _WIDTHS[kind]
    count = accessor_count(document, index)
    view, stride = _buffer_view(document, accessor.get("bufferView"), dtype.itemsize * width)
    offset = whole(accessor.get("byteOffset", 0), len(view), "byteOffset of an accessor")
    need = (count - 1) * stride + dtype.itemsize * width if count else 0
    if need > len(view) - offset:
        raise FormatError(
            f"A GLB accessor of {count:,} elements takes {need:,} bytes; {len(view) - offset:,} are there."
        )
    # The bound above is what makes this view safe.
    strides = (stride, dtype.itemsize)
    raw = np.ndarray((count, width), dtype, view, offset, strides)
    values: Array = raw.astype(np.float32)
    if accessor.get("normalized") is True and dtype.kind != "f":
        values = np.maximum(values / np.float32(np.iinfo(dtype).max), -1.0)
    return values


def _buffer_view(document: Document, index: object, element: int) -> tuple[memoryview, int]:
    """Bytes of a view into the binary chunk, and the distance between its elements."""
    view = document.item("bufferViews", index)
    if "uri" in document.item("buffers", view.get("buffer")) or view.get("buffer") != 0:
        raise FormatError("The GLB keeps its data in another file; pack it into one GLB first.")
    size = len(document.binary)
    start = whole(view.get("byteOffset", 0), size, "byteOffset of a buffer view")
    length = whole(view.get("byteLength"), size - start, "byteLength of a buffer view")
    stride = whole(view.get("byteStride", element), 252, "byteStride of a buffer view")
    if stride < element:
        raise FormatError(
            f"A GLB buffer view has a stride of {stride} bytes for elements of {element}; it is not valid."
        )
    return document.binary[start : start + length], stride


def global_transforms(document: Document) -> list[Matrix]:
    """World matrix [4, 4] of every node.

    Raises:
        FormatError: Too many nodes, a node of two parents or of itself, or a transform that is no transform.
    """
    nodes = [document.item("nodes", i) for i in range(len(document.items("nodes")))]
    if len(nodes) > _MAX_NODES:
        raise FormatError(f"The GLB has {len(nodes):,} nodes; at most {_MAX_NODES:,} are read.")
    parents = [-1] * len(nodes)
    for i, node in enumerate(nodes):
        children = node.get("children", [])
        for child in children if isinstance(children, list) else [None]:
            at = whole(child, len(nodes) - 1, "child of a node")
            if parents[at] != -1:
                raise FormatError(f"Node {at} of the GLB has two parents; nodes must form trees.")
            parents[at] = i
    done: dict[int, Matrix] = {-1: np.eye(4)}
    for start in range(len(nodes)):
        chain, at = [], start
        while at not in done:
            chain.append(at)
            if len(chain) > len(nodes):
                raise FormatError(f"Node {start} of the GLB is its own ancestor; nodes must form trees.")
            at = parents[at]
        for node_index in reversed(chain):
            with np.errstate(over="ignore", invalid="ignore"):
                done[node_index] = done[parents[node_index]] @ _local_transform(nodes[node_index])
    return [done[i] for i in range(len(nodes))]


def _local_transform(node: dict[str, Any]) -> Matrix:
    """Matrix of one node, from ``matrix`` or from translation, rotation and scale."""
    if "matrix" in node:
        return _numbers(node["matrix"], 16).reshape(4, 4).T  # glTF stores columns
    x, y, z, w = _numbers(node.get("rotation", [0, 0, 0, 1]), 4)
    out = np.eye(4)
    out[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    out[:3, :3] *= _numbers(node.get("scale", [1, 1, 1]), 3)
    out[:3, 3] = _numbers(node.get("translation", [0, 0, 0]), 3)
    return out


def _numbers(value: object, count: int) -> Matrix:
    """``count`` moderate numbers."""
    good = isinstance(value, list) and len(value) == count
    if not good or not all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in value):  # type: ignore[attr-defined]
        raise FormatError(
            f"A node of the GLB has a transform of other than {count} numbers below 1e9; it is not valid glTF."
        )
    return np.array(value, np.float64)
