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
from headlift.formats.cloud import GENERATOR
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
COLORED = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
SHAPED = ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
COMPACT = COLORED + SHAPED
FULL = COLORED + [f"f_rest_{i}" for i in range(45)] + SHAPED
SH_C0 = 0.28209479177387814


def rows_of(data: bytes) -> np.ndarray:
    return PlyData.read(io.BytesIO(data))["vertex"].data


def file_of(rows: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    PlyData([PlyElement.describe(rows, "vertex")], **{"byte_order": "<", **options}).write(out)
    return out.getvalue()


@pytest.mark.parametrize(("variant", "names"), [("ply", FULL), ("ply_compact", COMPACT)])
def test_plyfile_reads_our_values(bust: Bust, variant: str, names: list[str]) -> None:
    head = bust(100)
    file = PlyData.read(io.BytesIO(formats.write(head, variant)))
    rows = file["vertex"]
    assert [p.name for p in rows.properties] == names
    x, y, z = head.means.T.numpy()
    assert np.array_equal(rows["x"], x)
    assert np.array_equal(rows["y"], -y)
    assert np.array_equal(rows["z"], -z)
    assert np.allclose(1 / (1 + np.exp(-rows["opacity"])), head.opacities, atol=1e-6)
    assert np.allclose(np.exp(rows["scale_1"]), head.scales[:, 1], rtol=1e-5)
    assert np.allclose(rows["f_dc_2"] * SH_C0 + 0.5, head.colors[:, 2], atol=1e-6)
    assert any(comment.startswith("frame RDF: ") for comment in file.comments) == (variant == "ply_compact")


class FixedLayoutReader:
    """As importers read that take 3DGS's reference layout for granted: refuses all else, and counts by place."""

    def __init__(self, data: bytes) -> None:
        header, body = data.split(b"end_header\n", 1)
        magic, form, element, *properties = header.decode().splitlines()
        assert (magic, form) == ("ply", "format binary_little_endian 1.0")
        assert [line.removeprefix("property float ") for line in properties] == FULL
        self.count = int(element.removeprefix("element vertex "))
        assert len(body) == self.count * 248  # not one byte before or behind the vertices
        self.rows = np.frombuffer(body, "<f4").reshape(self.count, 62)

    def scales(self) -> np.ndarray:  # UnityGaussianSplatting and GodotGaussianSplatting: opacity 54, scale 55, rot 58
        return np.exp(self.rows[:, 55:58])

    def opacities(self) -> np.ndarray:
        return 1 / (1 + np.exp(-self.rows[:, 54]))

    def quats(self) -> np.ndarray:
        return self.rows[:, 58:62]

    def sh_rest(self) -> np.ndarray:
        return self.rows[:, 9:54]


@pytest.mark.parametrize("count", [1, 3, 50])
def test_readers_with_a_fixed_layout_take_the_default(bust: Bust, count: int) -> None:
    head = bust(count)
    seen = FixedLayoutReader(formats.write(head, "ply"))
    assert seen.count == count
    assert np.allclose(seen.scales(), head.scales, rtol=1e-5)
    assert np.allclose(seen.opacities(), head.opacities, atol=1e-6)
    assert np.allclose(np.abs((seen.quats() * [1, 1, -1, -1] * head.quats.numpy()).sum(1)), 1, atol=1e-5)
    assert not seen.sh_rest().any()
    with pytest.raises(AssertionError):
        FixedLayoutReader(formats.write(head, "ply_compact"))


def test_frame_and_generator_come_back_without_a_comment(bust: Bust) -> None:
    data = formats.write(bust(50), "ply", frame="LUF")
    head, metadata = formats.read_with_metadata(data)
    assert torch.equal(head.means, bust(50).means)
    assert (metadata.frame, metadata.generator, metadata.sh_degree) == ("LUF", GENERATOR, 0)
    again = file_of(rows_of(data))  # what another program copies without a change keeps it
    assert formats.read_with_metadata(again)[1] == metadata
    assert formats.read_with_metadata(file_of(rows_of(data)[::-1].copy()))[1].generator == ""


def test_a_frame_that_cannot_be_noted_is_refused_and_the_default_needs_no_note(bust: Bust) -> None:
    assert formats.read_with_metadata(formats.write(bust(3), "ply"))[1].generator == ""
    with pytest.raises(FormatError, match="ply_compact"):
        formats.write(bust(3), "ply", frame="LUF")


def test_gsply_reads_our_values_and_we_read_its_files(bust: Bust, tmp_path: Path) -> None:
    head = bust(100)
    ours, theirs = tmp_path / "ours.ply", tmp_path / "theirs.ply"
    for normals in (True, False):
        ours.write_bytes(formats.write(head, "ply_compact", normals=normals))
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
    rows = rows_of(formats.write(bust(50), "ply_compact", frame="RUB"))
    names = [n for n in rows.dtype.names if not n.startswith(("n", "f_rest"))][::-1]
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
    rows["f_rest_7"] = 1.0  # as trained splats have them
    plain = file_of(rows)
    assert torch.equal(formats.read(plain).means, bust(50).means)
    assert torch.equal(formats.read(plain, frame="RUB").means, bust(50).means * torch.tensor([1.0, -1.0, -1.0]))


@pytest.mark.parametrize("variant", ["ply", "ply_compact"])
@pytest.mark.parametrize("frame", ["RUB", "LUF", "RDF", "LDB"])
def test_the_frame_in_the_file_is_believed(bust: Bust, frame: str, variant: str) -> None:
    assert torch.equal(formats.read(formats.write(bust(50), variant, frame=frame)).means, bust(50).means)


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
        formats.read(formats.write(bust(5), "ply_compact").replace(b"frame RDF", b"frame UPS"))
