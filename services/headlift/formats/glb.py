"""GLB with KHR_gaussian_splatting: glTF 2.0's own splats, as points that any viewer can show.

Attributes of a primitive of mode POINTS: POSITION, ROTATION (x y z w, unit), SCALE (linear), OPACITY
(0..1), SH_DEGREE_0_COEF_0, and COLOR_0 (linear RGB and opacity) for viewers without splats. glTF's frame
(Y up, front on +Z) has the axes of the head frame, so a viewer that obeys it sees the face.

Rotations are written as normalised bytes, scales and opacities as normalised shorts: 44 bytes a Gaussian instead of
60. (glTF aligns every element to 4 bytes and keeps positions and coefficients in floats; less is not valid.) Shorts of
metres would be too coarse for scales, so the node carries a scale, the power of two at or above the largest one, by
which positions and scales are divided: positions stay exact.
Specification: Khronos KHR_gaussian_splatting; its README of July 2026 said "Release Candidate". Earlier drafts stored
the logarithm of SCALE; as linear scales are never negative, a negative one tells a draft, and is read as such.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats.axes import GLTF_FRAME, Frame, parse_frame
from headlift.formats.cloud import (
    GENERATOR,
    MAX_GAUSSIANS,
    Array,
    Cloud,
    Metadata,
    check_count,
    colors_from_sh,
    exp_scales,
    joined,
    sh_from_colors,
    unit_quats,
)
from headlift.formats.gltf import (
    ARRAY_BUFFER,
    COMPONENT_TYPES,
    FLOAT,
    MAGIC,
    POINTS,
    Document,
    Matrix,
    accessor_count,
    excerpt,
    global_transforms,
    read_accessor,
    read_glb,
    write_glb,
)
from headlift.formats.placement import placed

__all__ = ["MAGIC", "decode", "encode"]

EXTENSION = "KHR_gaussian_splatting"
_POSITION, _COLOR = "POSITION", "COLOR_0"
_ROTATION, _SCALE, _OPACITY = f"{EXTENSION}:ROTATION", f"{EXTENSION}:SCALE", f"{EXTENSION}:OPACITY"
_SH0 = f"{EXTENSION}:SH_DEGREE_0_COEF_0"
_SRGB, _LINEAR = "srgb_rec709_display", "lin_rec709_display"
_MAX_PLACED = 10_000  # primitives over all nodes: meshes may be shown again and again


def encode(cloud: Cloud, *, integers: bool = True) -> bytes:
    """A GLB file in glTF's frame: one node, one mesh, one primitive of points.

    Args:
        cloud: Gaussians in any frame.
        integers: Rotations, scales and opacities as normalised integers; False writes floats and a plain node.
    """
    cloud = cloud.in_frame(GLTF_FRAME)
    unit = _power_of_two_from(float(cloud.scales.max())) if integers else 1.0
    rgba = np.concatenate([srgb_to_linear(cloud.colors), cloud.opacities[:, None]], 1)
    values: dict[str, NDArray[Any]] = {
        _POSITION: cloud.means / np.float32(unit),
        _COLOR: np.rint(rgba * 255.0).astype(np.uint8),
        _ROTATION: unit_quats(cloud.quats)[:, [1, 2, 3, 0]],
        _SCALE: cloud.scales / np.float32(unit),
        _OPACITY: cloud.opacities[:, None],
        _SH0: sh_from_colors(cloud.colors),
    }
    if integers:
        values[_ROTATION] = np.rint(values[_ROTATION] * 127.0).astype(np.int8)
        values[_SCALE] = np.rint(np.minimum(values[_SCALE], 1.0) * 65535.0).astype(np.uint16)
        values[_OPACITY] = np.rint(values[_OPACITY] * 65535.0).astype(np.uint16)
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, array in values.items():
        blob, stride = _aligned(array)
        start = sum(map(len, blobs))  # every array is a multiple of 4 bytes long
        views.append({"buffer": 0, "byteOffset": start, "byteLength": len(blob), "target": ARRAY_BUFFER})
        if stride != array.itemsize * array.shape[1]:
            views[-1]["byteStride"] = stride
        accessors.append(_accessor(name, array, len(views) - 1))
        blobs.append(blob)
    return write_glb(_tree(list(values), views, accessors, sum(map(len, blobs)), unit), b"".join(blobs))


def _power_of_two_from(value: float) -> float:
    """The smallest power of two that is not below ``value``; at least 2^-20, and what float32 can hold."""
    return float(2.0 ** min(np.ceil(np.log2(max(value, 2.0**-20))), 127.0))


def _aligned(array: NDArray[Any]) -> tuple[bytes, int]:
    """Little-endian rows, each filled up to a multiple of 4 bytes, and their length."""
    row = array.itemsize * array.shape[1]
    stride = -(-row // 4) * 4
    rows = np.zeros((len(array), stride), np.uint8)
    rows[:, :row] = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).view(np.uint8)
    return rows.tobytes(), stride


def _accessor(name: str, array: NDArray[Any], view: int) -> dict[str, Any]:
    kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
    component = COMPONENT_TYPES[array.dtype.str.lstrip("<|=")]
    accessor: dict[str, Any] = {"bufferView": view, "componentType": component, "count": len(array), "type": kind}
    if component != FLOAT:
        accessor["normalized"] = True
    if name == _POSITION:  # glTF demands the bounds of positions
        accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
    return accessor


def _tree(names: list[str], views: list[Any], accessors: list[Any], size: int, unit: float) -> dict[str, Any]:
    primitive = {
        "attributes": {name: index for index, name in enumerate(names)},
        "mode": POINTS,
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": _SRGB,
                "projection": "perspective",
                "sortingMethod": "cameraDistance",
            }
        },
    }
    note = "metres; +Y up, the face looks along +Z, +X is the head's own left"
    return {
        "asset": {"version": "2.0", "generator": GENERATOR, "extras": {"frame": GLTF_FRAME, "axes": note}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"} | ({} if unit == 1.0 else {"scale": [unit] * 3})],
        "meshes": [{"primitives": [primitive], "name": "head"}],
        "buffers": [{"byteLength": size}],
        "bufferViews": views,
        "accessors": accessors,
    }


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of all splat primitives in a GLB file, where its nodes put them.

    Args:
        data: The file.
        frame: Frame of its world; None takes glTF's. Files made from scans by others often look along -Z: ``LUF``.
        max_gaussians: Refuse files that announce more, over all nodes.

    Raises:
        FormatError: Not GLB, no splats in it, compressed or sheared splats, broken, cut off, or too large.
    """
    document = read_glb(data)
    primitives = _placed_primitives(document)
    total = sum(accessor_count(document, attributes.get(_POSITION)) for _, attributes, _ in primitives)
    check_count(total, max_gaussians, "GLB file")
    used = parse_frame(frame or GLTF_FRAME)
    parts = [
        placed(_read_primitive(document, attributes, space), matrix, "a node of the GLB")
        for matrix, attributes, space in primitives
    ]
    cloud = joined(parts, used)
    asset = document.root.get("asset")
    generator = asset.get("generator") if isinstance(asset, dict) else None
    degree = max(_sh_degree(attributes) for _, attributes, _ in primitives)
    return cloud, Metadata("glb", "2.0", total, used, generator[:200] if isinstance(generator, str) else "", degree)


def _placed_primitives(document: Document) -> list[tuple[Matrix, dict[str, Any], str]]:
    """Every splat primitive of every node that shows one: world matrix, attributes, colour space."""
    primitives_placed: list[tuple[Matrix, dict[str, Any], str]] = []
    count = 0
    for index, matrix in enumerate(global_transforms(document)):
        mesh = document.item("nodes", index).get("mesh")
        primitives = [] if mesh is None else document.item("meshes", mesh).get("primitives")
        if not isinstance(primitives, list) or (count := count + len(primitives)) > _MAX_PLACED:
            raise FormatError(
                f"A mesh of the GLB has no list of primitives, or all nodes show more than {_MAX_PLACED:,}."
            )
        primitives_placed += [(matrix, *splats) for splats in map(_splats_of, primitives) if splats is not None]
    if not primitives_placed:
        raise FormatError(f"No node of the GLB shows a {EXTENSION} primitive; a splat file is needed, not a mesh.")
    return primitives_placed


def _splats_of(primitive: object) -> tuple[dict[str, Any], str] | None:
    """Attributes and colour space of a primitive that has the extension."""
    extensions = primitive.get("extensions") if isinstance(primitive, dict) else None
    splatting = extensions.get(EXTENSION) if isinstance(extensions, dict) else None
    if not isinstance(primitive, dict) or not isinstance(splatting, dict):
        return None
    attributes, space = primitive.get("attributes"), splatting.get("colorSpace", _SRGB)
    if not isinstance(attributes, dict) or primitive.get("mode") != POINTS:
        raise FormatError(
            f"A {EXTENSION} primitive has no attributes or is not of mode {POINTS} (points); it is not valid."
        )
    if splatting.get("kernel", "ellipse") != "ellipse" or space not in (_SRGB, _LINEAR):
        raise FormatError(
            f"A splat primitive has kernel {excerpt(splatting.get('kernel'))} and colour space {excerpt(space)}; "
            f"ellipse and {_SRGB} or {_LINEAR} can be read."
        )
    missing = [name for name in (_POSITION, _ROTATION, _SCALE, _OPACITY, _SH0) if name not in attributes]
    if missing:
        packed = " It is compressed by another extension; export it without." if splatting.get("extensions") else ""
        raise FormatError(f"A {EXTENSION} primitive lacks {', '.join(missing)}.{packed}")
    return attributes, str(space)


def _read_primitive(document: Document, attributes: dict[str, Any], space: str) -> Cloud:
    means = read_accessor(document, attributes[_POSITION], "VEC3")
    rotations = read_accessor(document, attributes[_ROTATION], "VEC4")
    scales = read_accessor(document, attributes[_SCALE], "VEC3")
    opacities = read_accessor(document, attributes[_OPACITY], "SCALAR")
    colors = colors_from_sh(read_accessor(document, attributes[_SH0], "VEC3"))
    if len({len(means), len(rotations), len(scales), len(opacities), len(colors)}) != 1:
        raise FormatError(f"The attributes of a {EXTENSION} primitive differ in length; it is not valid.")
    if len(scales) and float(scales.min()) < 0.0:
        scales = exp_scales(scales)
    if space == _LINEAR:
        colors = linear_to_srgb(np.clip(colors, 0.0, 1.0))
    return Cloud(means, rotations[:, [3, 0, 1, 2]], scales, opacities[:, 0], colors)


def _sh_degree(attributes: dict[str, Any]) -> int:
    """Highest degree of harmonics that the primitive has."""
    return max(degree for degree in range(4) if degree == 0 or f"{EXTENSION}:SH_DEGREE_{degree}_COEF_0" in attributes)


def srgb_to_linear(colors: Array) -> Array:
    """IEC 61966-2-1, from display values 0..1 to linear light."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4).astype(np.float32)


def linear_to_srgb(colors: Array) -> Array:
    """IEC 61966-2-1, from linear light 0..1 to display values."""
    return np.where(colors <= 0.0031308, colors * 12.92, 1.055 * colors ** (1 / 2.4) - 0.055).astype(np.float32)
