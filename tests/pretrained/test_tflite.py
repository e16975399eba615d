from __future__ import annotations

import struct

import pytest
import torch
import torch.nn.functional as F

from headlift.errors import CorruptWeightsError
from headlift.pretrained.graph import GraphNetwork
from headlift.pretrained.tflite import _flex_map, convert

Node = tuple[bytes, "list[tuple[int, Node]]"]  # not aligned bytes, and where in them offsets to further nodes stand


def vector(values: list[int], kind: str = "i") -> Node:
    return struct.pack(f"<I{len(values)}{kind}", len(values), *values), []


def table(*fields: Node | bytes | None) -> Node:
    """A FlatBuffer table: bytes are scalars, nodes become offsets, None is a default."""
    body, slots, links = b"\0" * 4, [], []
    for field in fields:
        if field is None:
            slots.append(0)
            continue
        slots.append(len(body))
        if isinstance(field, tuple):
            links.append((len(body), field))
            body += b"\0" * 4
        else:
            body += field.ljust(4, b"\0")
    head = struct.pack(f"<HH{len(slots)}H", 4 + 2 * len(slots), len(body), *slots)
    head += b"\0" * (-len(head) % 4)
    body = struct.pack("<i", len(head)) + body[4:]
    return head + body, [(at + len(head), node) for at, node in links] + [(-len(head), (b"", []))]


def tables(nodes: list[Node]) -> Node:
    return struct.pack("<I", len(nodes)) + b"\0" * 4 * len(nodes), [(4 + 4 * i, node) for i, node in enumerate(nodes)]


def laid_out(root: Node) -> bytes:
    out = bytearray(b"\0\0\0\0TFL3")

    def put(node: Node) -> int:
        """Append a node; where offsets to it point."""
        content, links = node
        start = len(out)
        out.extend(content + b"\0" * (-len(content) % 4))
        entry = start + next((-at for at, child in links if not child[0]), 0)  # a table begins after its field list
        for at, child in links:
            if child[0]:
                struct.pack_into("<I", out, start + at, put(child) - (start + at))
        return entry

    struct.pack_into("<I", out, 0, put(root))
    return bytes(out)


def tensor(shape: list[int], buffer: int, kind: int = 0) -> Node:
    return table(vector(shape), struct.pack("<b", kind), struct.pack("<I", buffer))


def small_model() -> tuple[bytes, torch.Tensor, torch.Tensor]:
    """A strided SAME convolution with RELU, then PRELU; its weights in TensorFlow's order."""
    weight, slope = torch.randn(4, 3, 3, 2).half(), torch.tensor([0.1, 0.2, 0.3, 0.4]).half()
    buffers = [
        table(None),
        table(vector(list(weight.numpy().tobytes()), "B")),
        table(vector(list(slope.numpy().tobytes()), "B")),
    ]
    shapes = [tensor([1, 6, 6, 2], 0), tensor([4, 3, 3, 2], 1, 1), tensor([1, 3, 3, 4], 0), tensor([1, 1, 4], 2, 1),
              tensor([1, 3, 3, 4], 0), tensor([4, 3, 3, 2], 0)]  # fmt: skip
    one, two = struct.pack("<b", 1), struct.pack("<i", 2)
    conv_options = table(None, two, two, None)
    operators = [
        table(struct.pack("<I", 2), vector([1]), vector([5])),
        table(None, vector([0, 5]), vector([2]), one, conv_options),
        table(struct.pack("<I", 1), vector([2, 3]), vector([4])),
    ]
    graph = table(tables(shapes), vector([0]), vector([4]), tables(operators))
    codes = [table(struct.pack("<b", code)) for code in (3, 54, 6)]
    model = table(struct.pack("<I", 3), tables(codes), tables([graph]), None, tables(buffers))
    return laid_out(model), weight, slope


def test_a_converted_graph_computes_what_its_operators_say() -> None:
    data, weight, slope = small_model()
    network = GraphNetwork(*convert(data))
    pictures = torch.randn(3, 2, 6, 6)
    (answer,) = network(pictures)
    padded = F.pad(pictures, (0, 1, 0, 1))  # SAME of an even side: the odd pixel lies right and below
    expected = F.conv2d(padded, weight.permute(0, 3, 1, 2).float(), stride=2)
    assert torch.allclose(answer, F.prelu(expected, slope.float()), atol=1e-5)


def test_gradients_reach_the_pictures() -> None:
    pictures = torch.randn(1, 2, 6, 6, requires_grad=True)
    GraphNetwork(*convert(small_model()[0]))(pictures)[0].square().sum().backward()
    assert pictures.grad is not None
    assert bool(pictures.grad.any())


@pytest.mark.parametrize("data", [b"", b"0123456789", small_model()[0][:200]])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptWeightsError):
        convert(data)


def test_options_of_custom_operators_are_read() -> None:
    # {"idx": [1, 2, 300], "scale": 1.5} as the flexbuffers library writes it
    data = bytes.fromhex("73 63 61 6c 65 00 69 64 78 00".replace(" ", ""))
    vec = len(data) + 2
    data += struct.pack("<hhhh", 3, 1, 2, 300)
    keys = len(data) + 1
    data += bytes([2, keys - 6, keys + 1 - 0])
    data += b"\0" * (-len(data) % 4)
    at = len(data)
    data += struct.pack("<iii", at - keys, 1, 2)
    values = len(data)
    data += struct.pack("<if", values - vec, 1.5) + bytes([11 << 2 | 1, 3 << 2 | 2])
    data += bytes([len(data) - values]) + bytes([9 << 2 | 2, 1])
    assert _flex_map(data) == {"idx": [1, 2, 300], "scale": 1.5}
