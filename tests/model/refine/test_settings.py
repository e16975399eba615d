"""Settings refuse what cannot work and name it."""

from __future__ import annotations

import pytest

from headlift.errors import InvalidInputError
from headlift.model.refine import RefineSettings


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": -1},
        {"steps": 20_000},
        {"size": 8},
        {"final_size": 4096},
        {"final_share": 1.5},
        {"means_rate": float("nan")},
        {"alpha_weight": -0.1},
        {"distrusted_weight": 1.1},
        {"max_growth": 0.5},
        {"max_offset": float("inf")},
        {"scale_weights": ()},
        {"scale_weights": (1.0, -1.0)},
    ],
)
def test_a_value_out_of_range_is_named(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(changes))):
        RefineSettings(**changes)


def test_the_defaults_are_sound() -> None:
    assert RefineSettings().steps == 100
    assert RefineSettings(steps=0).steps == 0
