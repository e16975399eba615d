import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headlift.errors import CancelledError, InvalidInputError
from headlift.gateway.edits.strokes import UNIT, paint, parse_strokes
from headlift.v1 import edit_pb2 as pb

LINE, AREA, FILL = pb.STROKE_SHAPE_LINE, pb.STROKE_SHAPE_AREA, pb.STROKE_SHAPE_FILL
SIDE = 64
PIXEL = UNIT // SIDE


def drawn(*strokes, labels=None, side=SIDE):
    labels = np.zeros((side, side), np.uint8) if labels is None else labels
    return paint(labels, parse_strokes(pb.Strokes(strokes=strokes)))


def stroke(points, radius=0, shape=LINE, label=14):
    return pb.Stroke(label=label, points=[int(v) for v in points], radius=radius, shape=shape)


DIGEST = "787ce3716f332e25e22512c548140787dbfda5921c1f59845af02e1d5fb2ad85"  # of painting noted when it was written
COORDINATES = st.integers(-UNIT, 2 * UNIT)
POINTS = st.lists(COORDINATES, min_size=2, max_size=12).map(lambda p: p[: len(p) // 2 * 2])
STROKES = st.builds(
    stroke,
    points=POINTS,
    radius=st.integers(0, UNIT // 2),
    shape=st.sampled_from([LINE, AREA]),
    label=st.integers(0, 18),
)


@given(strokes=st.lists(STROKES, min_size=1, max_size=4))
def test_strokes_paint_what_a_plain_look_at_every_pixel_says(strokes):
    labels = np.random.default_rng(1).integers(0, 19, (16, 16), np.uint8)
    expected = labels.copy()
    for one in strokes:
        for y in range(16):
            for x in range(16):
                if covers(one, (x + 0.5) * UNIT / 16, (y + 0.5) * UNIT / 16, UNIT / 16):
                    expected[y, x] = one.label
    assert np.array_equal(drawn(*strokes, labels=labels), expected)


def covers(one, x, y, pixel):
    """The contract in plain words, point by point."""
    points = list(zip(one.points[::2], one.points[1::2], strict=True))
    inside = False
    if one.shape == AREA:
        for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True):
            if ya > yb:
                xa, ya, xb, yb = xb, yb, xa, ya
            if ya <= y < yb and x > xa + (y - ya) * (xb - xa) / (yb - ya):
                inside = not inside
        if not one.radius:
            return inside
        points = [*points, points[0]]
    radius = max(one.radius, 0.7072 * pixel)
    for (xa, ya), (xb, yb) in zip(points, points[1:] or points, strict=False):
        length2 = (xb - xa) ** 2 + (yb - ya) ** 2
        t = min(max(((x - xa) * (xb - xa) + (y - ya) * (yb - ya)) / length2, 0.0), 1.0) if length2 else 0.0
        if (x - xa - t * (xb - xa)) ** 2 + (y - ya - t * (yb - ya)) ** 2 <= radius**2:
            return True
    return inside


def test_painting_is_the_same_on_every_machine():
    rng = np.random.default_rng(7)
    many = [
        stroke(rng.integers(-UNIT, 2 * UNIT, 40), int(rng.integers(0, 900)), [LINE, AREA][i % 2], int(rng.integers(19)))
        for i in range(20)
    ]
    digest = hashlib.sha256(drawn(*many, side=256).tobytes()).hexdigest()
    assert digest == DIGEST


@given(x=st.integers(0, UNIT - 1), y=st.integers(0, UNIT - 1))
def test_a_dot_marks_the_pixel_that_it_lies_in(x, y):
    labels = drawn(stroke([x, y]))
    assert labels[y // PIXEL, x // PIXEL] == 14
    assert 1 <= (labels == 14).sum() <= 4


def test_a_line_leaves_no_gap_between_any_two_points():
    labels = drawn(stroke([0, 0, UNIT, UNIT // 3]))
    assert (labels == 14).any(0).all()


def test_a_polygon_crossed_by_itself_has_a_hole():
    bow = [1000, 1000, 7000, 7000, 7000, 1000, 1000, 7000]
    labels = drawn(stroke(bow, shape=AREA))
    assert labels[SIDE // 2, SIDE // 4] == 14
    assert labels[SIDE // 4, SIDE // 2] == 0


def test_the_bucket_fills_what_is_connected_and_nothing_behind_a_border():
    wall = stroke([0, 4000, UNIT, 4000], 200, label=2)
    labels = drawn(wall, stroke([10, 10], shape=FILL, label=16))
    assert (labels[:28] == 16).all()
    assert (labels[40:] == 0).all()
    corner = np.zeros((SIDE, SIDE), np.uint8)
    corner[:32, :32] = corner[32:, 32:] = 5
    filled = drawn(stroke([0, 0], shape=FILL), labels=corner)
    assert (filled[:32, :32] == 14).all()
    assert (filled[32:, 32:] == 5).all()  # touches at a corner alone


def test_strokes_fit_maps_of_every_size():
    shape = stroke([2048, 2048, 6144, 2048, 6144, 6144, 2048, 6144], shape=AREA)
    small, large = drawn(shape, side=64), drawn(shape, side=256)
    assert np.array_equal(np.kron(small, np.ones((4, 4), np.uint8)), large)


def test_later_strokes_lie_on_earlier_ones_and_the_map_given_stays():
    before = np.zeros((SIDE, SIDE), np.uint8)
    labels = drawn(stroke([4096, 4096], 2000, label=1), stroke([4096, 4096], 1000, label=2), labels=before)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert not before.any()


def test_nobody_waits_for_strokes_that_are_given_up():
    def check():
        raise CancelledError("gone")

    with pytest.raises(CancelledError):
        paint(np.zeros((SIDE, SIDE), np.uint8), parse_strokes(pb.Strokes(strokes=[stroke([0, 0])])), check)


@pytest.mark.parametrize("count", [0, 2049])
def test_the_number_of_points_is_bounded(count):
    with pytest.raises(InvalidInputError) as caught:
        parse_strokes(pb.Strokes(strokes=[stroke([0, 0] * count)]))
    assert caught.value.reason == "BAD_STROKE"
    with pytest.raises(InvalidInputError, match="16384"):
        parse_strokes(pb.Strokes(strokes=[stroke([0, 0] * 2048)] * 9))
