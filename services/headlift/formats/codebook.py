"""Codebooks of one dimension: the few values that stand for many with the least squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headlift.formats.cloud import Array

_STEPS = 200  # of Lloyd's iteration, a tenth of a millisecond each
_BINS = 1 << 16  # values are counted first: a step costs the same for any number of them


def train_codebook(values: Array, size: int) -> Array:  # [N] -> [size], ascending
    """Values that stand for all of ``values``; these themselves where they are no more than ``size``.

    Lloyd's iteration on a histogram, from a start whose density is the cube root of the data's (Panter and Dite 1951),
    where the best codebook of one dimension tends to. No random numbers: the same values give the same book.
    """
    distinct = np.unique(values)
    if len(distinct) <= size:
        return np.concatenate([distinct, np.repeat(distinct[-1:], size - len(distinct))])
    counts, edges = np.histogram(values.astype(np.float64), _BINS)
    centers, weights = (edges[:-1] + edges[1:]) / 2, counts.astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    moments = np.concatenate([[0.0], np.cumsum(weights * centers)])
    density = np.cumsum(np.convolve(weights, np.ones(257), "same") ** (1 / 3))
    book = np.interp((np.arange(size) + 0.5) / size * density[-1], density, centers)
    for _ in range(_STEPS):
        ends = np.searchsorted(centers, np.concatenate([[-np.inf], (book[:-1] + book[1:]) / 2, [np.inf]]))
        mass = np.diff(sums[ends])
        book = np.where(mass > 0, np.diff(moments[ends]) / np.where(mass > 0, mass, 1.0), book)
    return np.sort(book).astype(np.float32)


def nearest_entries(values: Array, book: Array) -> NDArray[np.int64]:  # any shape
    """Index of the entry of an ascending ``book`` next to every value."""
    return np.searchsorted((book[:-1] + book[1:]) / 2, values)
