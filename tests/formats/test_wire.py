"""The wire codec: layout, checks, room to grow."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from headlift import formats
from headlift.errors import FormatError, InvalidGaussiansError
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
HEAD = struct.Struct("<4sBBHIIII8x")


def rebuilt(data: bytes, body: bytes | None = None, parameters: bytes | None = None, **changes: int) -> bytes:
    """The message with some header fields, parameters or body changed and the checksum right."""
    values = dict(
        zip(
            ("magic", "version", "mode", "flags", "count", "psize", "bsize", "crc"), HEAD.unpack_from(data), strict=True
        )
    )
    split = HEAD.size + values["psize"]
    parameters = data[HEAD.size : split] if parameters is None else parameters
    body = data[split:] if body is None else body
    values |= {"psize": len(parameters), "bsize": len(body), "crc": zlib.crc32(parameters + body), **changes}
    return HEAD.pack(*values.values()) + parameters + body


def test_raw_mode_is_lossless_bit_for_bit(bust: Bust, extremes: Gaussians) -> None:
    for head in (bust(1000), extremes):
        back = formats.read(formats.write(head, "wire", mode="raw"))
        for field in fields(Gaussians):
            assert torch.equal(getattr(back, field.name), getattr(head, field.name)), field.name


def test_any_flipped_byte_is_noticed(bust: Bust) -> None:
    data = formats.write(bust(64), "wire")
    for at in range(0, len(data), 7):
        if 24 <= at < 32:  # the zeros kept for later mean nothing yet
            continue
        broken = bytearray(data)
        broken[at] ^= 0x55
        with pytest.raises(FormatError):
            formats.read(bytes(broken), "wire")


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"mode": 2}, {"flags": 2}, {"count": 0}, {"count": 4_000_001}, {"count": 65}, {"count": 63}],
)
def test_what_this_version_does_not_know_is_refused(bust: Bust, change: dict[str, int]) -> None:
    for options in ({}, {"level": 0}, {"mode": "raw"}):
        with pytest.raises(FormatError):
            formats.read(rebuilt(formats.write(bust(64), "wire", **options), **change))


def test_longer_parameters_of_a_later_writer_are_skipped(bust: Bust) -> None:
    data = formats.write(bust(64), "wire")
    longer = rebuilt(data, parameters=data[32:80] + b"future")
    assert torch.equal(formats.read(longer).means, formats.read(data).means)


def test_boxes_of_nonsense_are_refused(bust: Bust) -> None:
    data = formats.write(bust(64), "wire")
    for box in (
        [float("nan")] * 12,
        [1.0] * 3 + [-1.0] * 3 + [0.0] * 6,
        [0.0] * 9 + [1000.0] * 3,
        [-3e38] * 3 + [3e38] * 3 + [0.0] * 6,
    ):
        with pytest.raises(FormatError, match="boxes"):
            formats.read(rebuilt(data, parameters=struct.pack("<12f", *box)))


def test_a_body_that_unpacks_to_more_or_less_is_refused(bust: Bust) -> None:
    small, large = formats.write(bust(32), "wire"), formats.write(bust(64), "wire")
    for head, other in ((small, large), (large, small)):
        with pytest.raises(FormatError, match="zstd"):
            formats.read(rebuilt(head, body=other[80:]))


def test_a_flat_cloud_and_a_single_gaussian_come_back_exactly_placed(bust: Bust) -> None:
    one = formats.read(formats.write(bust(1), "wire"))
    assert torch.equal(one.means, bust(1).means)
    flat = replace(bust(50), means=bust(50).means * torch.tensor([1.0, 0.0, 1.0]) + torch.tensor([0.0, 0.25, 0.0]))
    assert torch.equal(formats.read(formats.write(flat, "wire")).means[:, 1], flat.means[:, 1])


def test_a_cloud_beyond_a_million_kilometres_is_refused_with_the_way_out(bust: Bust) -> None:
    with pytest.raises(InvalidGaussiansError, match="mode raw"):
        formats.write(replace(bust(5), means=bust(5).means * 1e12), "wire")


@pytest.mark.parametrize("options", [{"mode": "delta"}, {"level": 20}, {"level": -1}])
def test_unknown_options_are_refused(bust: Bust, options: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        formats.write(bust(5), "wire", **options)
