import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headlift.errors import InvalidInputError
from headlift.gateway.edits.maps import KEEP, difference, map_message, painted, parse_map, resize_map
from headlift.v1 import edit_pb2 as pb

MAPS = st.integers(16, 40).flatmap(
    lambda side: st.binary(min_size=side * side, max_size=side * side).map(
        lambda data: np.frombuffer(data, np.uint8).reshape(side, side) % 19
    )
)


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return pb.LabelMap(data=buffer.getvalue())


@given(labels=MAPS, kind=st.sampled_from([pb.LABEL_MAP_FORMAT_PNG, pb.LABEL_MAP_FORMAT_RAW]))
def test_a_map_comes_back_as_it_was_sent(labels, kind):
    assert np.array_equal(parse_map(map_message(labels, kind), len(labels), field="map", may_keep=False), labels)


@given(before=MAPS, data=st.data())
def test_a_difference_makes_the_same_map_and_says_nothing_of_the_rest(before, data):
    patch = data.draw(st.binary(min_size=before.size, max_size=before.size))
    after = np.where(np.frombuffer(patch, np.uint8).reshape(before.shape) < 99, 7, before)
    change = difference(before, after)
    assert np.array_equal(painted(before, change), after)
    assert (change[before == after] == KEEP).all()


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_resizing_by_whole_numbers_and_back_changes_nothing(factor):
    labels = np.random.default_rng(0).integers(0, 19, (32, 32), np.uint8)
    large = np.kron(labels, np.ones((factor, factor), np.uint8))
    assert np.array_equal(resize_map(labels, 32 * factor), large)
    assert np.array_equal(resize_map(large, 32), labels)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_every_depth_are_read_by_their_indices(bits):
    labels = (np.arange(256, dtype=np.uint8).reshape(16, 16)) % min(2**bits, 19)
    picture = Image.fromarray(labels)
    picture.putpalette(bytes(range(255, -1, -1)) * 3)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", bits=bits)
    message = pb.LabelMap(data=buffer.getvalue(), side_px=16)
    assert np.array_equal(parse_map(message, 16, field="map", may_keep=False), labels)


def test_a_file_that_claims_to_be_huge_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(InvalidInputError) as caught:
        parse_map(pb.LabelMap(data=b"\x89PNG\r\n\x1a\n" + chunk), 64, field="map", may_keep=False)
    assert (caught.value.reason, caught.value.field) == ("WRONG_SIZE", "map")
    assert "60000x60000" in caught.value.message


def test_greys_of_other_depths_are_refused_for_their_values_would_be_scaled():
    narrow = Image.new("1", (16, 16))
    for picture in (narrow, Image.new("I;16", (16, 16)), Image.new("LA", (16, 16))):
        with pytest.raises(InvalidInputError) as caught:
            parse_map(png(picture), 16, field="map", may_keep=False)
        assert caught.value.reason == "BAD_MAP"


@given(data=st.binary(max_size=200))
def test_no_bytes_but_a_map_are_a_map(data):
    for prefix in (b"", b"\x89PNG\r\n\x1a\n", map_message(np.zeros((16, 16), np.uint8)).data[:40]):
        with pytest.raises(InvalidInputError) as caught:
            parse_map(pb.LabelMap(data=prefix + data), 16, field="map", may_keep=True)
        assert caught.value.reason in ("BAD_MAP", "WRONG_SIZE")


def test_what_stays_is_a_label_only_where_something_is():
    labels = np.full((16, 16), KEEP, np.uint8)
    assert (parse_map(map_message(labels), 16, field="map", may_keep=True) == KEEP).all()
    with pytest.raises(InvalidInputError) as caught:
        parse_map(map_message(labels), 16, field="map", may_keep=False)
    assert (caught.value.reason, caught.value.metadata) == ("UNKNOWN_LABEL", {"labels": "255"})
