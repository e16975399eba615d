"""Hostile bytes at every reader: FormatError or valid Gaussians, nothing else, and soon."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headlift import formats
from headlift.errors import FormatError
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
KINDS = [
    ("ply", {}),
    ("ply_compact", {}),
    ("ply_compressed", {}),
    ("splat", {}),
    ("spz", {}),
    ("spz", {"version": 4}),
    ("sog", {}),
    ("glb", {}),
    ("html", {}),
    ("wire", {}),
    ("wire", {"mode": "raw"}),
]
NAMES = [" ".join([name, *map(str, options.values())]) for name, options in KINDS]
RELAXED = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(data: bytes, name: str | None = None) -> None:
    """Reading gives Gaussians that hold together, or a FormatError with a sentence in it."""
    try:
        head = formats.read(data, name, max_gaussians=100_000)
    except FormatError as error:
        message = error.message
    else:
        head.validate()
        return
    assert len(message) > 20
    assert message[-1] in ".}"


@cache
def sample(bust: Bust, kind: int) -> bytes:
    name, options = KINDS[kind]
    return formats.write(bust(40), name, **options)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=NAMES)
@RELAXED
@given(
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 1 << 20),
)
def test_changed_bytes(bust: Bust, kind: int, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(sample(bust, kind))
    for at, value in changes:
        # Half of the changes go to the first 100 bytes: that is where headers are.
        data[at % (100 if at % 2 else len(data))] = value
    if cut % 3 == 0:
        del data[cut % len(data) :]
    survives(bytes(data), KINDS[kind][0])
    survives(bytes(data) + b"glued on", KINDS[kind][0])


PACKED = b"\n".join(
    [b"ply\nformat binary_little_endian 1.0\nelement chunk 1"]
    + [
        b"property float " + side + b"_" + name
        for name in (b"x", b"y", b"z", b"scale_x", b"scale_y", b"scale_z")
        for side in (b"min", b"max")
    ]
    + [b"element vertex 2"]
    + [b"property uint packed_" + name for name in (b"position", b"rotation", b"scale", b"color")]
    + [b"end_header\n"]
)


@pytest.mark.parametrize("name", list(formats.Format))
@RELAXED
@given(data=st.binary(max_size=400))
def test_random_bytes_under_every_magic(name: str, data: bytes) -> None:
    tops = {
        "ply": b"ply\nformat binary_little_endian 1.0\n",
        "ply_compact": b"ply\nformat binary_little_endian 1.0\n",
        "ply_compressed": PACKED,
        "sog": b"PK\3\4",
        "glb": b"glTF\2\0\0\0",
        "usdz": b"PK\3\4" + bytes(22) + b"\6\0\0\0a.usdc",
        "html": b'<!doctype html><script id="head" type="text/plain">',
        "wire": b"HLGS\1",
        "spz": b"NGSP\4\0\0\0",
    }
    survives(data, name)
    survives(tops.get(name, b"") + data, name)
    survives(tops.get(name, b"") + data)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=NAMES)
@RELAXED
@given(
    word=st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000, 0xFF800000, 4_000_000]),
    at=st.integers(0, 200),
)
def test_words_of_nonsense_in_the_head(bust: Bust, kind: int, word: int, at: int) -> None:
    data = bytearray(sample(bust, kind))
    data[at : at + 4] = word.to_bytes(4, "little")
    survives(bytes(data), KINDS[kind][0])


@RELAXED
@given(values=st.lists(st.floats(width=32), min_size=8, max_size=8), rows=st.integers(1, 4))
def test_splats_of_any_floats(values: list[float], rows: int) -> None:
    survives(np.array(values * rows, np.float32).tobytes())


LINES = """element chunk 1|element chunk 0|property uint packed_position|property uint packed_rotation
property uint packed_scale|property uint packed_color|property float min_x|property float max_x
element vertex 3|element vertex 99999999999|element face 2|property float x|property list uchar int y
comment|comment frame XXX:|comment frame RUB: x|property double z|property float|element|element vertex|end_header
format ascii 1.0|format binary_big_endian 1.0|obj_info a|property uint8 rot_0|""".replace("\n", "|").split("|")


@RELAXED
@given(lines=st.lists(st.sampled_from(LINES), max_size=12), tail=st.binary(max_size=200))
def test_ply_headers_of_any_lines(lines: list[str], tail: bytes) -> None:
    text = "\n".join(["ply", "format binary_little_endian 1.0", *lines, "end_header", ""])
    survives(text.encode() + tail, "ply")


def test_a_small_file_that_announces_much_costs_little() -> None:
    """The largest count allowed, and nothing behind it: refused before memory is taken."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = (4_000_000).to_bytes(4, "little")
    ply = b"ply\nformat binary_little_endian 1.0\nelement vertex 4000000\n"
    names = b"x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    ply += b"property float " + names.replace(b" ", b"\nproperty float ") + b"\nend_header\n"
    wire = b"HLGS" + bytes([1, 0, 0, 0]) + count + bytes(20)
    spz = b"NGSP\4\0\0\0" + count + bytes([0, 12, 0, 5]) + (32).to_bytes(4, "little") + bytes(12 + 80)
    for data in (ply, wire, spz):
        with pytest.raises(FormatError):
            formats.read(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
