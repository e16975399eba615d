"""SPZ: both containers, older versions, harmonics, extension records; gsply agrees."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
import zstandard

from headlift import formats
from headlift.errors import FormatError, InvalidGaussiansError
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
RDF = torch.tensor([1.0, -1.0, -1.0])


def payload(data: bytes) -> bytearray:
    return bytearray(gzip.decompress(data))


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content


def v4_file(raw: bytes, records: bytes = b"", *, flags: int = 0, count: int | None = None) -> bytes:
    """A version-4 file of version 3's unpacked bytes, as a writer of streams without stated sizes makes it."""
    head, n, degree = raw[:16], struct.unpack_from("<I", raw, 8)[0], raw[12]
    widths = [9, 1, 3, 3, 4] + ([(0, 9, 24, 45, 72)[degree]] if degree else [])
    streams, at = [], 16
    for width in widths:
        out = io.BytesIO()
        with zstandard.ZstdCompressor(write_content_size=False).stream_writer(out, closefd=False) as writer:
            writer.write(bytes(raw[at : at + width * n]))
        streams.append((out.getvalue(), width * n))
        at += width * n
    top = struct.pack("<4sII", head[:4], 4, n if count is None else count) + bytes(
        [degree, head[13], flags, len(widths)]
    )
    table = b"".join(struct.pack("<QQ", len(packed), size) for packed, size in streams)
    return top + struct.pack("<I12x", 32 + len(records)) + records + table + b"".join(packed for packed, _ in streams)


@pytest.mark.parametrize("version", [3, 4])
def test_gsply_reads_our_values(bust: Bust, tmp_path: Path, version: int) -> None:
    head = bust(500)
    path = tmp_path / "head.spz"
    path.write_bytes(formats.write(head, "spz", version=version))
    ours, theirs = formats.read(path.read_bytes()), gsply.read_spz(path)
    assert np.allclose(theirs.means, ours.means, atol=1e-7)
    assert np.allclose(np.exp(theirs.scales), ours.scales, rtol=1e-5)
    assert np.allclose(theirs.quats, ours.quats, atol=1e-5)
    assert np.allclose(1 / (1 + np.exp(-theirs.opacities)), ours.opacities, atol=1e-5)
    assert np.allclose(np.clip(theirs.sh0 * 0.28209479 + 0.5, 0, 1), ours.colors, atol=1e-5)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_we_read_gsplys_files_with_any_harmonics(bust: Bust, tmp_path: Path, version: int, degree: int) -> None:
    head, path = bust(300), tmp_path / "theirs.spz"
    scene = gsply.GSData.from_arrays(
        means=head.means.numpy(),
        scales=head.scales.log().numpy(),
        quats=head.quats.numpy(),
        opacities=head.opacities.clamp(1e-4, 1 - 1e-4).logit().numpy(),
        sh0=((head.colors - 0.5) / 0.28209479).numpy(),
        shN=np.full((300, (0, 3, 8, 15)[degree], 3), 0.25, np.float32) if degree else None,
        format="ply",
    )
    gsply.write_spz(path, scene, version=version)
    back, metadata = formats.read_with_metadata(path.read_bytes())
    assert (metadata.version, metadata.sh_degree) == (str(version), degree)
    assert torch.allclose(back.means, head.means, atol=1.3e-4)
    assert torch.allclose(back.scales.log(), head.scales.log(), atol=0.033)
    assert torch.allclose(back.colors, head.colors, atol=1 / 255)
    assert float((back.quats * head.quats).sum(1).abs().min()) > 1 - 1e-4


def test_the_containers_hold_the_same_gaussians(bust: Bust) -> None:
    three, four = (formats.read(formats.write(bust(200), "spz", version=v)) for v in (3, 4))
    assert torch.equal(three.means, four.means)
    assert torch.equal(three.quats, four.quats)
    assert torch.equal(formats.read(v4_file(payload(formats.write(bust(200), "spz")))).means, three.means)


def test_version_2_stores_three_bytes_of_rotation(bust: Bust) -> None:
    head = bust(100)
    raw = payload(formats.write(head, "spz"))
    positive = head.quats * head.quats[:, :1].sign()
    first_three = ((positive[:, 1:] + 1) * 127.5).round().to(torch.uint8).numpy().tobytes()
    raw[4] = 2
    back, metadata = formats.read_with_metadata(gzip.compress(bytes(raw[: 16 + 16 * 100]) + first_three))
    assert metadata.version == "2"
    assert float((back.quats * head.quats).sum(1).abs().min()) > 0.995


@pytest.mark.parametrize(("index", "signs"), [(0, (1, 1, 1)), (4, (1, 1, 1)), (6, (1, -1, -1)), (7, (-1, 1, -1))])
def test_the_coordinate_system_record_is_obeyed(bust: Bust, index: int, signs: tuple[int, int, int]) -> None:
    raw = payload(formats.write(bust(20), "spz"))
    straight = formats.read(gzip.compress(bytes(raw))).means
    records = record(0xADBE0002, bytes(12)) + record(0xADBE0003, index.to_bytes(4, "little"))
    four = v4_file(raw, records, flags=2)
    raw[14] |= 2
    for data in (gzip.compress(bytes(raw) + records), four):
        assert torch.equal(formats.read(data).means, straight * torch.tensor(signs))
    assert torch.equal(formats.read(four, frame="RDF").means, straight * RDF)


@pytest.mark.parametrize("index", [9, 16, 17, 0xFFFFFFFF])
def test_axes_that_exchange_y_and_z_are_refused(bust: Bust, index: int) -> None:
    raw = payload(formats.write(bust(20), "spz"))
    with pytest.raises(FormatError, match=f"coordinate system {index}"):
        formats.read(v4_file(raw, record(0xADBE0003, index.to_bytes(4, "little")), flags=2))


def test_broken_records_are_passed_over(bust: Bust) -> None:
    raw = payload(formats.write(bust(20), "spz"))
    for records in (b"\1", record(5, b"abc")[:-1], struct.pack("<II", 7, 0xFFFFFFFF), record(0xADBE0003, b"")):
        assert len(formats.read(v4_file(raw, records, flags=2))) == 20


def test_a_wide_cloud_gives_up_fraction_bits_and_a_boundless_one_is_refused(bust: Bust) -> None:
    wide = replace(bust(20), means=bust(20).means * 1e5)
    back = formats.read(formats.write(wide, "spz"))
    assert torch.allclose(back.means, wide.means, rtol=1e-5, atol=2e-3)
    with pytest.raises(InvalidGaussiansError, match="8,388,607"):
        formats.write(replace(bust(20), means=bust(20).means * 1e12), "spz")


@pytest.mark.parametrize("options", [{"version": 2}, {"version": 5}, {"fraction_bits": 25}, {"fraction_bits": -1}])
def test_options_out_of_range_are_refused(bust: Bust, options: dict[str, int]) -> None:
    with pytest.raises(FormatError):
        formats.write(bust(5), "spz", **options)


@pytest.mark.parametrize("version", [0, 1, 5, 2**32 - 1])
def test_versions_that_nobody_wrote_are_refused(bust: Bust, version: int) -> None:
    for container in (3, 4):
        data = bytearray(formats.write(bust(5), "spz", version=container))
        raw = payload(bytes(data)) if container == 3 else data
        raw[4:8] = struct.pack("<I", version)
        with pytest.raises(FormatError, match="version"):
            formats.read(gzip.compress(bytes(raw)) if container == 3 else bytes(raw))


@pytest.mark.parametrize("count", [0, 4, 6, 4_000_000, 4_000_001, 2**32 - 1])
def test_counts_that_the_bytes_do_not_bear_are_refused(bust: Bust, count: int) -> None:
    raw = payload(formats.write(bust(5), "spz"))
    with pytest.raises(FormatError):
        formats.read(v4_file(raw, count=count))
    raw[8:12] = struct.pack("<I", count)
    with pytest.raises(FormatError):
        formats.read(gzip.compress(bytes(raw)))


def test_cut_off_files_are_refused_wherever_they_end(bust: Bust) -> None:
    for version in (3, 4):
        data = formats.write(bust(50), "spz", version=version)
        for end in range(2 if version == 3 else 4, len(data) - 1, 13):
            with pytest.raises(FormatError):
                formats.read(data[:end], "spz")
        with pytest.raises(FormatError):
            formats.read(data[:-1], "spz")


def test_a_wrong_gzip_checksum_is_noticed(bust: Bust) -> None:
    data = bytearray(formats.write(bust(50), "spz"))
    data[-6] ^= 1
    with pytest.raises(FormatError, match="damaged"):
        formats.read(bytes(data))
