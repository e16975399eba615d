"""Codebooks of one dimension."""

from __future__ import annotations

import numpy as np
import pytest

from headlift.formats.codebook import nearest_entries, train_codebook


def test_few_values_are_their_own_book() -> None:
    values = np.array([3, -1, 3, 2], np.float32)
    book = train_codebook(values, 8)
    assert len(book) == 8
    assert np.array_equal(book[nearest_entries(values, book)], values)


@pytest.mark.parametrize("name", ["normal", "exponential", "uniform"])
def test_the_error_is_below_that_of_equal_steps_and_near_the_optimum(name: str) -> None:
    values = getattr(np.random.default_rng(1), name)(size=200_000).astype(np.float32)
    book = train_codebook(values, 256)
    error = np.square(values - book[nearest_entries(values, book)]).mean()
    # Panter and Dite: a third of the cube of the integral of the density's cube root, over 4 n^2.
    optimum = {
        "normal": 2 * np.pi * 3**1.5 / 12,
        "exponential": 27 / 12,
        "uniform": 1 / 12,
    }[name] / 256**2
    assert error <= 1.2 * optimum
    equal = np.ptp(values) / 256
    assert error <= 1.02 * equal**2 / 12


def test_the_book_ascends_within_the_range_and_every_entry_is_used() -> None:
    values = np.random.default_rng(2).normal(size=5000).astype(np.float32)
    book = train_codebook(values, 64)
    assert values.min() <= book[0]
    assert book[-1] <= values.max()
    assert (np.diff(book) > 0).all()
    assert len(np.unique(nearest_entries(values, book))) == 64


def test_one_far_value_does_not_spoil_the_book() -> None:
    values = np.append(np.random.default_rng(3).normal(size=50_000), 1e3).astype(np.float32)
    book = train_codebook(values, 256)
    assert np.abs(values - book[nearest_entries(values, book)])[:-1].mean() < 0.05
