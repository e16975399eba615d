"""MakeHuman's units of expression told in ICT's blendshapes."""

from __future__ import annotations

import numpy as np

from headlift_trainer.synthetic.source.expressions import EXPRESSIONS, UNITS, expression_code, shapes_of


def test_every_unit_is_told_in_shapes_that_exist() -> None:
    for pattern in UNITS:
        for side in ("left", "right"):
            shapes = shapes_of(pattern.replace("*", side))
            assert shapes is not None
            assert set(shapes) <= set(EXPRESSIONS)


def test_a_unit_of_one_side_moves_that_side_only() -> None:
    code = expression_code({"eye-left-closure": 0.7})
    assert np.isclose(code[EXPRESSIONS.index("eyeBlink_L")], 0.7)
    assert code.sum() == code[EXPRESSIONS.index("eyeBlink_L")]


def test_codes_stay_between_0_and_1_and_unknown_units_leave_no_trace() -> None:
    code = expression_code({"mouth-corner-puller": 3.0, "no-such-unit": 1.0})
    assert code.shape == (53,)
    assert code.min() == 0.0
    assert code.max() == 1.0
    assert not expression_code({"no-such-unit": 1.0}).any()
