"""GLB: the container, the attributes, nodes that move splats, other component types, drafts."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from headlift import formats
from headlift.errors import FormatError
from headlift.formats.glb import linear_to_srgb, srgb_to_linear
from headlift.formats.gltf import write_glb
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
Tree = dict[str, Any]
KHR = "KHR_gaussian_splatting"


def taken_apart(data: bytes) -> tuple[Tree, bytes]:
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def values_of(tree: Tree, binary: bytes, name: str) -> np.ndarray:
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][name]]
    view = tree["bufferViews"][accessor["bufferView"]]
    kind = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
    data = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    return np.frombuffer(data, kind).reshape(accessor["count"], -1)


def test_the_file_is_what_the_extension_asks_for(bust: Bust) -> None:
    head = bust(101)
    data = formats.write(head, "glb", integers=False)
    tree, binary = taken_apart(data)
    primitive = tree["meshes"][0]["primitives"][0]
    assert data[:4] == b"glTF"
    assert struct.unpack_from("<II", data, 4) == (2, len(data))
    assert tree["extensionsUsed"] == [KHR]
    assert primitive["mode"] == 0
    assert primitive["extensions"][KHR]["kernel"] == "ellipse"
    assert primitive["extensions"][KHR]["colorSpace"] == "srgb_rec709_display"
    assert np.array_equal(values_of(tree, binary, "POSITION"), head.means)
    assert np.array_equal(values_of(tree, binary, f"{KHR}:SCALE"), head.scales)
    assert np.allclose(values_of(tree, binary, f"{KHR}:ROTATION")[:, [3, 0, 1, 2]], head.quats, atol=1e-7)
    assert np.array_equal(values_of(tree, binary, f"{KHR}:OPACITY")[:, 0], head.opacities)
    assert np.allclose(values_of(tree, binary, f"{KHR}:SH_DEGREE_0_COEF_0") * 0.28209479 + 0.5, head.colors, atol=1e-6)
    fallback = values_of(tree, binary, "COLOR_0")
    assert np.allclose(fallback[:, :3] / 255, srgb_to_linear(head.colors.numpy()), atol=0.5 / 255 + 1e-6)
    accessor = tree["accessors"][primitive["attributes"]["POSITION"]]
    assert np.array_equal(np.float32(accessor["min"]), head.means.min(0).values)
    assert all(view["byteOffset"] % 4 == 0 for view in tree["bufferViews"])
    assert tree["asset"]["extras"]["frame"] == "RUB"


def test_integers_are_normalised_aligned_and_fine_enough(bust: Bust) -> None:
    head = bust(101)
    tree, binary = taken_apart(formats.write(head, "glb"))
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    accessors = {name.split(":")[-1]: tree["accessors"][index] for name, index in attributes.items()}
    kinds = {name: (a["componentType"], a.get("normalized", False)) for name, a in accessors.items()}
    assert kinds == {
        "POSITION": (5126, False),
        "COLOR_0": (5121, True),
        "ROTATION": (5120, True),
        "SCALE": (5123, True),
        "OPACITY": (5123, True),
        "SH_DEGREE_0_COEF_0": (5126, False),
    }
    strides = [view.get("byteStride", 4) for view in tree["bufferViews"]]
    assert not any(stride % 4 for stride in strides)
    assert not any(view["byteOffset"] % 4 for view in tree["bufferViews"])
    assert len(binary) == 44 * 101
    (unit,) = set(tree["nodes"][0]["scale"])
    assert 1 <= unit / float(head.scales.max()) < 2
    assert np.log2(unit).is_integer()
    back = formats.read(formats.write(head, "glb"))
    assert torch.equal(back.means, head.means)
    assert float((back.scales - head.scales).abs().max()) <= 0.51 * unit / 65535
    assert float((back.opacities - head.opacities).abs().max()) <= 0.51 / 65535
    assert float(1 - (back.quats * head.quats).sum(1).abs().min()) < 5e-5


def test_srgb_and_linear_undo_each_other() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    assert np.allclose(linear_to_srgb(srgb_to_linear(ramp)), ramp, atol=1e-6)
    assert srgb_to_linear(np.float32([0.5]))[0] == pytest.approx(0.21404, abs=1e-4)


def test_nodes_move_turn_and_scale_their_splats(bust: Bust) -> None:
    head = bust(60)
    tree, binary = taken_apart(formats.write(head, "glb", integers=False))
    turn = Rotation.from_euler("xyz", [20, -130, 70], degrees=True)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn.as_matrix() * 2.0, [1, 2, 3]
    tree["nodes"] = [
        {"children": [1], "translation": [0.5, 0, 0], "scale": [3, 3, 3]},
        {"mesh": 0, "matrix": matrix.T.ravel().tolist()},
        {"name": "no mesh", "rotation": [0, 0, 0, 1]},
    ]
    back = formats.read(write_glb(tree, binary))
    moved = (head.means.double() @ torch.tensor(matrix[:3, :3].T) + torch.tensor([1.0, 2.0, 3.0])) * 3 + torch.tensor(
        [0.5, 0, 0]
    )
    assert torch.allclose(back.means.double(), moved, atol=1e-5)
    assert torch.allclose(back.scales, head.scales * 6, rtol=1e-5)
    expected = (turn * Rotation.from_quat(head.quats[:, [1, 2, 3, 0]])).as_quat()[:, [3, 0, 1, 2]]
    assert np.allclose(np.abs((back.quats.numpy() * expected).sum(1)), 1, atol=1e-5)


def test_a_mesh_shown_by_two_nodes_is_read_twice(bust: Bust) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    tree["nodes"].append({"mesh": 0, "translation": [1, 0, 0]})
    back = formats.read(write_glb(tree, binary))
    assert torch.allclose(back.means[10:], back.means[:10] + torch.tensor([1.0, 0, 0]))
    with pytest.raises(FormatError, match="at most 19"):
        formats.read(write_glb(tree, binary), max_gaussians=19)


@pytest.mark.parametrize(
    "node",
    [
        {"scale": [1, 2, 1]},
        {"scale": [-1, 1, 1]},
        {"scale": [0, 0, 0]},
        {"matrix": [1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]},
        {"matrix": [1] * 15},
        {"rotation": "up"},
        {"translation": [1e300, 0, 0]},
        {"translation": [True, None, 0]},
        {"children": [0]},
        {"children": [7]},
        {"children": 3},
    ],
)
def test_transforms_that_no_splat_can_follow_are_refused(bust: Bust, node: Tree) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    tree["nodes"] = [{"mesh": 0, **node}]
    with pytest.raises(FormatError):
        formats.read(write_glb(tree, binary))


def test_rings_of_nodes_and_two_parents_are_refused(bust: Bust) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    for nodes in (
        [{"mesh": 0, "children": [1]}, {"children": [0]}],
        [{"children": [2]}, {"children": [2]}, {"mesh": 0}],
    ):
        with pytest.raises(FormatError, match="trees"):
            formats.read(write_glb({**tree, "nodes": nodes}, binary))


def test_meshes_shown_too_often_and_endless_nesting_are_refused(bust: Bust) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    many = [{"primitives": [{}] * 5000}]
    with pytest.raises(FormatError, match="10,000"):
        formats.read(write_glb({**tree, "meshes": many, "nodes": [{"mesh": 0}] * 3}, binary))
    deep = write_glb({**tree, "meshes": "HERE"}, binary)
    for depth in range(880, 1000, 7):  # about where Python gives up
        text = deep[20 : len(deep) - len(binary) - 8].strip().replace(b'"HERE"', b"[" * depth + b"]" * depth)
        text = text.replace(b'"mesh":0', b'"mesh":' + b"[" * depth + b"]" * depth)
        text += b" " * (-len(text) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text
        with pytest.raises(FormatError):
            formats.read(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)


def test_overflowing_transforms_are_refused_without_a_warning(bust: Bust) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    chain = [{"children": [i + 1], "scale": [1e8] * 3} for i in range(60)] + [{"mesh": 0}]
    with pytest.raises(FormatError):
        formats.read(write_glb({**tree, "nodes": chain}, binary))


def test_quantised_and_interleaved_attributes_are_read(bust: Bust) -> None:
    head = bust(40)
    tree, binary = taken_apart(formats.write(head, "glb", integers=False))
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    rows = np.zeros(40, [("quat", "<i2", 4), ("opacity", "u1"), ("pad", "u1", 3)])
    rows["quat"] = np.rint(head.quats[:, [1, 2, 3, 0]].numpy() * 32767)
    rows["opacity"] = np.rint(head.opacities.numpy() * 255)
    tree["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": rows.nbytes, "byteStride": 12})
    view = len(tree["bufferViews"]) - 1
    for name, kind, component, offset in ((f"{KHR}:ROTATION", "VEC4", 5122, 0), (f"{KHR}:OPACITY", "SCALAR", 5121, 8)):
        new = {
            "bufferView": view,
            "byteOffset": offset,
            "componentType": component,
            "normalized": True,
            "count": 40,
            "type": kind,
        }
        attributes[name] = len(tree["accessors"])
        tree["accessors"].append(new)
    tree["buffers"][0]["byteLength"] += rows.nbytes
    back = formats.read(write_glb(tree, binary + rows.tobytes()))
    assert float((back.quats * head.quats).sum(1).abs().min()) > 1 - 1e-6
    assert torch.allclose(back.opacities, head.opacities, atol=0.5 / 255 + 1e-6)


def test_drafts_with_logarithms_of_scale_are_recognised_by_their_sign(bust: Bust) -> None:
    head = bust(40)
    tree, binary = taken_apart(formats.write(head, "glb", integers=False))
    view = tree["bufferViews"][3]
    logs = head.scales.log().numpy().tobytes()
    changed = binary[: view["byteOffset"]] + logs + binary[view["byteOffset"] + len(logs) :]
    assert torch.allclose(formats.read(write_glb(tree, changed)).scales, head.scales, rtol=1e-5)


def test_linear_colour_spaces_become_srgb(bust: Bust) -> None:
    tree, binary = taken_apart(formats.write(bust(40), "glb", integers=False))
    tree["meshes"][0]["primitives"][0]["extensions"][KHR]["colorSpace"] = "lin_rec709_display"
    back = formats.read(write_glb(tree, binary))
    assert np.allclose(back.colors, linear_to_srgb(bust(40).colors.numpy()), atol=1e-5)


@pytest.mark.parametrize("value", [-1, 6, 99, 1e3, "0", None, True, [], {}, 2**80])
@pytest.mark.parametrize(
    "path",
    [
        ("nodes", 0, "mesh"),
        ("meshes", 0, "primitives", 0, "attributes", f"{KHR}:ROTATION"),
        ("meshes", 0, "primitives", 0, "attributes", "POSITION"),
        ("meshes", 0, "primitives", 0, "mode"),
        ("meshes", 0, "primitives"),
        ("meshes",),
        ("nodes",),
        ("accessors", 0),
        ("accessors", 0, "count"),
        ("accessors", 0, "type"),
        ("accessors", 3, "componentType"),
        ("accessors", 1, "bufferView"),
        ("accessors", 2, "bufferView"),
        ("accessors", 2, "byteOffset"),
        ("bufferViews", 0, "byteLength"),
        ("bufferViews", 0, "byteOffset"),
        ("bufferViews", 0, "byteStride"),
        ("bufferViews", 0, "buffer"),
        ("buffers",),
        ("asset",),
    ],
)
def test_any_value_of_the_json_may_be_anything(bust: Bust, path: tuple[str | int, ...], value: object) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    at: Any = tree
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with contextlib.suppress(FormatError):
        formats.read(write_glb(tree, binary)).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": "box"}, "kernel"),
        ({"colorSpace": "acescg"}, "colour space"),
    ],
)
def test_other_kernels_and_colour_spaces_are_refused(bust: Bust, change: Tree, message: str) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    tree["meshes"][0]["primitives"][0]["extensions"][KHR] |= change
    with pytest.raises(FormatError, match=message):
        formats.read(write_glb(tree, binary))


def test_meshes_compressed_splats_and_outside_buffers_are_refused_with_the_way_out(bust: Bust) -> None:
    tree, binary = taken_apart(formats.write(bust(10), "glb", integers=False))
    primitive = tree["meshes"][0]["primitives"][0]
    with pytest.raises(FormatError, match="another file"):
        formats.read(write_glb({**tree, "buffers": [{"byteLength": len(binary), "uri": "data.bin"}]}, binary))
    del primitive["attributes"][f"{KHR}:SCALE"]
    primitive["extensions"][KHR]["extensions"] = {f"{KHR}_compression_spz_2": {}}
    with pytest.raises(FormatError, match="export it without"):
        formats.read(write_glb(tree, binary))
    del primitive["extensions"]
    with pytest.raises(FormatError, match="not a mesh"):
        formats.read(write_glb(tree, binary))


def test_cut_off_files_are_refused_wherever_they_end(bust: Bust) -> None:
    data = formats.write(bust(20), "glb", integers=False)
    for end in range(4, len(data), 37):
        with pytest.raises(FormatError):
            formats.read(data[:end], "glb")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"1", b"{", b"[" * 100_000, b'{"nodes":[[]]}', b"\xff\xfe", b'{"nodes":{}}', b"9" * 9000]
)
def test_json_of_any_kind_is_refused_in_peace(text: bytes) -> None:
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    with pytest.raises(FormatError):
        formats.read(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
