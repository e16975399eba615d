"""Compressed PLY: the layout of PlayCanvas, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable

import gsply
import numpy as np
import pytest
import torch
from plyfile import PlyData

from headlift import formats
from headlift.errors import FormatError
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]


def test_chunks_and_vertices_stand_where_readers_look_for_them(bust: Bust) -> None:
    data = PlyData.read(io.BytesIO(formats.write(bust(600), "ply_compressed")))
    assert [(element.name, element.count) for element in data.elements] == [("chunk", 3), ("vertex", 600)]
    assert [p.name for p in data["chunk"].properties][:7] == [
        "min_x", "min_y", "min_z", "max_x", "max_y", "max_z", "min_scale_x",
    ]  # fmt: skip
    assert [p.name for p in data["vertex"].properties] == [
        "packed_position", "packed_rotation", "packed_scale", "packed_color",
    ]  # fmt: skip


def test_gsply_sees_what_we_see(bust: Bust, tmp_path: object) -> None:
    data = formats.write(bust(600), "ply_compressed")
    theirs, ours = gsply.decompress_from_bytes(data), formats.read(data)
    means = torch.from_numpy(np.array(theirs.means, np.float32))
    assert torch.allclose(means * torch.tensor([1.0, -1.0, -1.0]), ours.means, atol=1e-6)
    scales = torch.from_numpy(np.array(theirs.scales, np.float32)).exp()
    assert torch.allclose(scales, ours.scales, rtol=1e-3)
    opacities = torch.from_numpy(np.array(theirs.opacities, np.float32)).sigmoid().ravel()
    assert torch.allclose(opacities, ours.opacities, atol=2e-3)


def test_files_without_bounds_of_colours_are_read(bust: Bust) -> None:
    data = PlyData.read(io.BytesIO(formats.write(bust(100), "ply_compressed")))
    kept = [name for name in data["chunk"].data.dtype.names if name[-1] not in "rgb"]
    head = b"ply\nformat binary_little_endian 1.0\nelement chunk 1\n"
    head += b"".join(f"property float {name}\n".encode() for name in kept) + b"element vertex 100\n"
    head += b"".join(f"property uint {name}\n".encode() for name in data["vertex"].data.dtype.names) + b"end_header\n"
    bounds = np.concatenate([data["chunk"][name] for name in kept]).astype("<f4")
    old = formats.read(head + bounds.tobytes() + data["vertex"].data.tobytes())
    packed = data["vertex"]["packed_color"].astype(np.uint32)
    assert torch.allclose(old.colors[:, 0], torch.from_numpy((packed >> 24) / np.float32(255)).float(), atol=1e-6)


def test_what_is_not_whole_is_refused(bust: Bust) -> None:
    data = formats.write(bust(600), "ply_compressed")
    with pytest.raises(FormatError, match="cut off"):
        formats.read(data[:-1])
    with pytest.raises(FormatError, match="2 chunks for 600"):
        formats.read(data.replace(b"element chunk 3", b"element chunk 2"))
    with pytest.raises(FormatError, match="lacks packed_scale"):
        formats.read(data.replace(b"packed_scale", b"packed_scala"))
    with pytest.raises(FormatError, match="lacks min_x"):
        formats.read(data.replace(b"float min_x", b"float mix_x"))
    with pytest.raises(FormatError, match="at most 500"):
        formats.read(data, max_gaussians=500)
    with pytest.raises(FormatError, match="no integer"):
        formats.read(data.replace(b"uint packed_color", b"float packed_color"))
