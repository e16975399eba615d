"""PLY: other orders, other types, other frames; plyfile and gsply read what we write, and the reverse."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from headlift import formats
from headlift.errors import FormatError
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
SH_C0 = 0.28209479177387814


def rows_of(data: bytes) -> np.ndarray:
    return PlyData.read(io.BytesIO(data))["vertex"].data


def file_of(rows: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    PlyData([PlyElement.describe(rows, "vertex")], **{"byte_order": "<", **options}).write(out)
    return out.getvalue()


def test_plyfile_reads_our_values(bust: Bust) -> None:
    head = bust(100)
    file = PlyData.read(io.BytesIO(formats.write(head, "ply")))
    rows = file["vertex"]
    names = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert [p.name for p in rows.properties] == names.split()
    x, y, z = head.means.T.numpy()
    assert np.array_equal(rows["x"], x)
    assert np.array_equal(rows["y"], -y)
    assert np.array_equal(rows["z"], -z)
    assert np.allclose(1 / (1 + np.exp(-rows["opacity"])), head.opacities, atol=1e-6)
    assert np.allclose(np.exp(rows["scale_1"]), head.scales[:, 1], rtol=1e-5)
    assert np.allclose(rows["f_dc_2"] * SH_C0 + 0.5, head.colors[:, 2], atol=1e-6)
    assert any(comment.startswith("frame RDF: ") for comment in file.comments)


def test_gsply_reads_our_values_and_we_read_its_files(bust: Bust, tmp_path: Path) -> None:
    head = bust(100)
    ours, theirs = tmp_path / "ours.ply", tmp_path / "theirs.ply"
    for normals in (True, False):
        ours.write_bytes(formats.write(head, "ply", normals=normals))
        seen = gsply.plyread(ours)
        assert np.allclose(seen.means * [1, -1, -1], head.means)
        assert np.allclose(np.exp(seen.scales), head.scales, rtol=1e-5)
        assert np.allclose(np.abs((seen.quats * [1, 1, -1, -1] * head.quats.numpy()).sum(1)), 1, atol=1e-5)
    gsply.plywrite(
        theirs, seen.means, seen.scales, seen.quats, seen.opacities, seen.sh0, np.ones((100, 15, 3), np.float32)
    )
    back, metadata = formats.read_with_metadata(theirs.read_bytes())
    assert metadata.sh_degree == 3
    assert torch.allclose(back.means, head.means)
    assert torch.allclose(back.colors, head.colors, atol=1e-6)
    assert torch.allclose(back.opacities, head.opacities, atol=1e-6)


def test_order_and_types_of_properties_do_not_matter(bust: Bust) -> None:
    rows = rows_of(formats.write(bust(50), "ply", frame="RUB"))
    names = [n for n in rows.dtype.names if not n.startswith("n")][::-1]
    shuffled = np.empty(
        len(rows), [(n, "f8" if i % 2 else "f4") for i, n in enumerate(names)] + [("red", "u1"), ("f_rest_0", "f4")]
    )
    for name in names:
        shuffled[name] = rows[name]
    for order in "<>":
        back = formats.read(file_of(shuffled, byte_order=order), frame="RUB")
        assert torch.allclose(back.means, bust(50).means)
        assert torch.allclose(back.quats, bust(50).quats, atol=1e-6)


def test_files_without_a_frame_are_rdf_unless_told_otherwise(bust: Bust) -> None:
    rows = rows_of(formats.write(bust(50), "ply"))
    plain = file_of(rows)
    assert torch.equal(formats.read(plain).means, bust(50).means)
    assert torch.equal(formats.read(plain, frame="RUB").means, bust(50).means * torch.tensor([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("frame", ["RUB", "LUF", "RDF", "LDB"])
def test_the_frame_in_the_comment_is_believed(bust: Bust, frame: str) -> None:
    assert torch.equal(formats.read(formats.write(bust(50), "ply", frame=frame)).means, bust(50).means)


def test_elements_before_and_after_the_vertices_are_passed_over(bust: Bust) -> None:
    rows = rows_of(formats.write(bust(20), "ply"))
    before = PlyElement.describe(np.zeros(3, [("a", "f8"), ("b", "u1")]), "camera")
    after = PlyElement.describe(np.zeros(2, [("c", "i4")]), "other")
    out = io.BytesIO()
    PlyData([before, PlyElement.describe(rows, "vertex"), after], byte_order="<").write(out)
    assert torch.equal(formats.read(out.getvalue()).means, bust(20).means)


def test_crlf_headers_are_read(bust: Bust) -> None:
    head, body = formats.write(bust(5), "ply").split(b"end_header\n", 1)
    data = head.replace(b"\n", b"\r\n") + b"end_header\r\n" + body
    assert torch.equal(formats.read(data).means, bust(5).means)


def test_text_files_and_point_clouds_are_refused_with_the_way_out(bust: Bust) -> None:
    rows = rows_of(formats.write(bust(5), "ply"))
    with pytest.raises(FormatError, match="Save it as binary"):
        formats.read(file_of(rows, text=True))
    with pytest.raises(FormatError, match=r"lack f_dc_0.*3DGS"):
        formats.read(file_of(np.zeros(3, [("x", "f4"), ("y", "f4"), ("z", "f4")])))
    with pytest.raises(FormatError, match="list"):
        formats.read(
            b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list uchar int v\nend_header\n\0"
        )


@pytest.mark.parametrize("count", ["-1", "1e9", "9" * 18, "9" * 5000, "4000001", "0", "51"])
def test_counts_that_the_bytes_do_not_bear_are_refused(bust: Bust, count: str) -> None:
    data = formats.write(bust(50), "ply").replace(b"element vertex 50", b"element vertex " + count.encode())
    with pytest.raises(FormatError):
        formats.read(data)


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(FormatError, match="65,536"):
        formats.read(b"ply\n" + b"comment x\n" * 100_000)
    properties = b"".join(b"property float p%d\n" % i for i in range(2000))
    with pytest.raises(FormatError, match="at most 1024"):
        formats.read(b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n" + properties + b"end_header\n")


def test_an_unknown_frame_is_refused_on_both_ways(bust: Bust) -> None:
    with pytest.raises(FormatError, match="RUB"):
        formats.write(bust(5), "ply", frame="UPS")
    with pytest.raises(FormatError, match="RUB"):
        formats.read(formats.write(bust(5), "ply").replace(b"frame RDF", b"frame UPS"))
